"""`Scores`: anybody's scores, from an `.npz` of logits or a CSV of probabilities or logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.csvfile import CsvFile, is_number, read_csv
from mlrec.datasets.manifest import Manifest, label_order, repeated
from mlrec.errors import DataError, Findings, PredictionsError, counted, nearest, printable
from mlrec.metrics.conventions import Conventions
from mlrec.metrics.result import Metrics, evaluate_scores
from mlrec.predictions import Predictions

OUTSIDE = "scores outside [0, 1] were taken as logits; --logits says so without this warning"


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of N samples and C labels, on their own scale.

    Attributes:
        path: where they were read, for messages.
        labels: C names.
        sample_ids: N unique ids.
        values: (N, C) logits, or probabilities as they were given.
        threshold: a label is predicted at or above it: 0 for logits, 0.5 for probabilities.
        targets: (N, C) 1, 0 or -1, None as long as there is no truth.
    """

    path: Path
    labels: tuple[str, ...]
    sample_ids: tuple[str, ...]
    values: NDArray[np.floating[Any]]
    threshold: float
    targets: NDArray[np.int8] | None = None

    def of_labels(self, chosen: Sequence[str]) -> Scores:
        """These labels only, in this order.

        Raises:
            PredictionsError: one of them is not among the labels; names the nearest.
        """
        for name in chosen:
            if name not in self.labels:
                raise PredictionsError(
                    f"{printable(self.path)}: no label '{printable(name)}'{nearest(name, self.labels)}"
                )
        columns = [self.labels.index(name) for name in chosen]
        targets = None if self.targets is None else self.targets[:, columns]
        return replace(self, labels=tuple(chosen), values=self.values[:, columns], targets=targets)

    def against(self, truth: Manifest) -> Scores:
        """The rows and columns in the order of the truth, with its targets.

        An id may be the base name of a sample's, where only one sample has it.

        Raises:
            PredictionsError: other labels, a sample scored twice or not at all, an id that is no sample.
        """
        try:
            columns = label_order(self.labels, truth.labels)
        except DataError as error:
            raise PredictionsError(f"{printable(self.path)}: {error}; or choose some with --labels") from error
        rows = _rows(self, truth)
        return replace(
            self,
            labels=truth.labels,
            sample_ids=truth.sample_ids,
            values=self.values[rows][:, columns],
            targets=truth.targets,
        )

    def evaluate(self, conventions: str | Conventions = "mlrec") -> Metrics:
        """Metrics against the targets.

        Raises:
            PredictionsError: there are no targets, or a score is NaN or infinite.
        """
        if self.targets is None:
            raise PredictionsError(f"{printable(self.path)}: holds no targets; give the truth as a second argument")
        try:
            return evaluate_scores(
                self.values, self.targets, threshold=self.threshold, labels=self.labels, conventions=conventions,
                sample_ids=self.sample_ids,
            )  # fmt: skip
        except PredictionsError as error:
            raise PredictionsError(f"{printable(self.path)}: {error}") from error


def read_scores(path: Path, findings: Findings, *, logits: bool = False, labels: Sequence[str] | None = None) -> Scores:
    """Read scores from an `.npz` (always logits) or a CSV `filename,<label>...`.

    Args:
        path: ends in `.npz` or `.csv`.
        findings: takes warnings.
        logits: the CSV holds logits; else probabilities, unless one lies outside [0, 1].
        labels: read these labels only.

    Raises:
        PredictionsError: a file that cannot be read, a cell that is no number, an id twice, a label that is missing.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        stored = Predictions.load(path)
        scores = Scores(path, stored.labels, stored.sample_ids, stored.logits, 0.0, stored.targets)
        return scores if labels is None else scores.of_labels(labels)
    if path.suffix.lower() == ".csv":
        return _read_csv_scores(path, findings, logits, labels)
    raise PredictionsError(f"{printable(path)}: scores must be an .npz or a .csv file")


def _read_csv_scores(path: Path, findings: Findings, logits: bool, labels: Sequence[str] | None) -> Scores:
    file = read_csv(path, findings, PredictionsError)
    ids = tuple(cells[0].strip() for cells in file.rows)
    for row, name in enumerate(ids):
        if not name:
            findings.error(file.where(row, 0), "is empty; give the id of a sample")
    for name in repeated(ids):
        lines = [str(file.lines[row]) for row, other in enumerate(ids) if other == name]
        findings.error(f"{path}", f"'{printable(name)}' is scored twice, on lines {' and '.join(lines[:2])}; keep one")
    names = file.columns[1:] if labels is None else labels
    for name in names:
        if name not in file.columns[1:]:
            findings.error(f"{path}", f"no label '{printable(name)}'{nearest(name, file.columns[1:])}")
    columns = [file.columns.index(name) for name in names if name in file.columns[1:]]
    values = _numbers(file, columns, findings)
    one_line(findings, PredictionsError)
    finite = values[np.isfinite(values)]
    outside = bool(finite.size) and not (finite.min() >= 0 and finite.max() <= 1)
    if outside and not logits:
        findings.warn(OUTSIDE, str(path))
    return Scores(path, tuple(names), ids, values, 0.0 if logits or outside else 0.5)


def one_line(findings: Findings, kind: type[PredictionsError | DataError]) -> None:
    """Raise the first error found, with the number of the others."""
    if findings.errors:
        more = len(findings.errors) - 1
        raise kind(findings.errors[0] + (f" (and {more} more such error{'s' if more > 1 else ''})" if more else ""))


def _numbers(file: CsvFile, columns: Sequence[int], findings: Findings) -> NDArray[np.float64]:
    values = np.zeros((len(file.rows), len(columns)))
    for row, cells in enumerate(file.rows):
        texts = [cells[column] for column in columns]
        try:
            values[row] = [float(text) for text in texts]
        except ValueError:
            texts = [text if is_number(text) else "" for text in texts]
        for column, text in zip(columns, texts, strict=True):
            if not text or "_" in text:
                findings.error(file.where(row, column), f"'{printable(cells[column])}' is not a number")
    return values


def _rows(scores: Scores, truth: Manifest) -> NDArray[np.intp]:
    """For each sample of the truth the row of its scores."""
    shown = printable(scores.path)
    row_of: dict[str, int] = {}
    place = _names_of(truth.sample_ids)
    unknown = []
    for row, name in enumerate(scores.sample_ids):
        sample = place.get(name)
        if sample is None:
            unknown.append(name)
        elif sample in row_of:
            raise PredictionsError(f"{shown}: '{printable(name)}' is scored twice; keep one")
        else:
            row_of[sample] = row
    missing = [sample for sample in truth.sample_ids if sample not in row_of]
    if unknown:
        several = any(sample.endswith(f"/{unknown[0]}") for sample in truth.sample_ids)
        raise PredictionsError(
            f"{shown}: {len(unknown)} of {len(scores.sample_ids)} predictions are of no sample of the truth, "
            f"first: '{printable(unknown[0])}'{', which could be several' if several else ''}"
        )
    if missing:
        raise PredictionsError(
            f"{shown}: {len(missing)} of {counted(len(truth), 'sample')} have no prediction, first: "
            f"'{printable(missing[0])}'"
        )
    return np.array([row_of[sample] for sample in truth.sample_ids], dtype=np.intp)


def _names_of(sample_ids: Sequence[str]) -> dict[str, str]:
    """Every name a sample may go by: its id, and the last part of it where no other sample has that."""
    bases = [sample.rpartition("/")[2] for sample in sample_ids]
    ambiguous = set(repeated(bases))
    short = {base: sample for base, sample in zip(bases, sample_ids, strict=True) if base not in ambiguous}
    return short | {sample: sample for sample in sample_ids}
