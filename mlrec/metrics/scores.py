"""`Scores`: scores from any model, read from a file.

The file is an `.npz` file with logits, a CSV file, or the output of `mlrec predict`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.csv_file import TextTable, is_number, read_csv
from mlrec.metrics.conventions import THRESHOLDS, Conventions, ScoreKind, clipped, implied_kind
from mlrec.metrics.evaluate import evaluate
from mlrec.metrics.id_matching import rows_of
from mlrec.metrics.summary import Metrics
from mlrec.predictions import Predictions, logits_of
from mlrec.utils.errors import DataError, PredictionsError, ValidationReport, counted, nearest
from mlrec.utils.files import read_text
from mlrec.utils.names import clean_label, duplicates_in, label_columns, label_order
from mlrec.utils.texts import Texts, repeated

OUTSIDE = "some scores are negative, so all scores are treated as logits; pass --logits to silence this warning"
INSIDE = (
    "no logit in the .npz file is negative, so the rule logit >= 0 predicts every label; if the values are "
    "probabilities, store them in a .csv file"
)
CLIPPED = "probabilities outside [0, 1] by at most 1e-4 were clipped"
DECIDED = "all scores are in [0, 1] and are treated as probabilities; if the scores are logits, pass --logits"
PREDICT_COLUMNS = ("id", "labels")  # the first columns that `mlrec predict` writes: the id, and the predicted labels


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of N samples and C labels, as logits or probabilities.

    Attributes:
        path: Path of the scores file, used in error messages.
        labels: C label names.
        sample_ids: N unique sample ids.
        values: (N, C) logits or probabilities.
        kind: Kind of the values, "logits" or "probabilities".
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown); None if the targets are not known yet.
        note: Explanation of how the kind was inferred; "" if the kind was specified or is unambiguous.
    """

    path: Path
    labels: tuple[str, ...]
    sample_ids: Sequence[str]
    values: NDArray[np.floating[Any]]
    kind: ScoreKind
    targets: NDArray[np.int8] | None = None
    note: str = ""

    @property
    def threshold(self) -> float:
        """Minimum score of a predicted label: 0 for logits, 0.5 for probabilities."""
        return THRESHOLDS[self.kind]

    @property
    def logits(self) -> NDArray[np.float64]:
        """Values as (N, C) logits; probabilities are clipped to [1e-7, 1 - 1e-7] before conversion."""
        if self.kind == "logits":
            return self.values.astype(np.float64)
        return logits_of(self.values)

    def of_labels(self, chosen: Sequence[str] | None) -> Scores:
        """Select the labels in `chosen`, in this order; None selects all labels.

        Raises:
            PredictionsError: A name is not among the labels; the message suggests the nearest name.
        """
        if chosen is None:
            return self
        columns = label_columns(self.labels, chosen, self.path, PredictionsError)
        targets = self.targets
        if targets is not None:
            targets = targets[:, columns]
        return replace(self, labels=tuple(chosen), values=self.values[:, columns], targets=targets)

    def against(self, truth: Manifest) -> Scores:
        """Reorder rows and columns to match a manifest, and add the targets of the manifest.

        An id may be a path suffix of a sample id, or the other way around, if only one sample matches.

        Raises:
            PredictionsError: The labels differ, a sample is scored twice or not at all, or an id matches no sample or
                multiple samples.
        """
        try:
            columns = label_order(self.labels, truth.labels)
        except DataError as error:
            raise PredictionsError(f"{self.path}: {error}; choose labels with --labels") from error
        rows = rows_of(truth.sample_ids, self.sample_ids, str(self.path))
        values = self.values  # not copied if the order is the same, because it may be gigabytes
        if not np.array_equal(rows, np.arange(len(values))):
            values = values[rows]
        if not np.array_equal(columns, np.arange(values.shape[1])):
            values = values[:, columns]
        return replace(self, labels=truth.labels, sample_ids=truth.sample_ids, values=values, targets=truth.targets)

    def evaluate(self, conventions: str | Conventions = "mlrec", top: int | None = None) -> Metrics:
        """Compute metrics against the targets; `top` has the same meaning as in `evaluate`.

        Raises:
            PredictionsError: There are no targets, or a score is NaN or infinite.
            UsageError: There are no conventions with that name, or `top` is not an integer from 1 to C.
        """
        if self.targets is None:
            raise PredictionsError(
                f"{self.path}: the file has no targets; pass the ground truth as the second argument"
            )
        try:
            return evaluate(
                self.values,
                self.targets,
                labels=self.labels,
                conventions=conventions,
                scores=self.kind,
                sample_ids=self.sample_ids,
                top=top,
            )
        except PredictionsError as error:
            raise PredictionsError(f"{self.path}: {error}") from error


def read_scores(
    path: Path, findings: ValidationReport, *, kind: ScoreKind | None = None, labels: Sequence[str] | None = None
) -> Scores:
    """Read scores from an `.npz` file, a CSV file, or the output of `mlrec predict`.

    An `.npz` file always contains logits, and a `.jsonl` file always contains probabilities. The columns of a CSV file
    are `filename,<label>...`, or `id,labels,<label>...` as written by `mlrec predict`.

    Args:
        path: File with the extension `.npz`, `.csv` or `.jsonl` (from `mlrec predict --format jsonl`).
        findings: Report to which warnings are added.
        kind: Kind of the scores. By default, the kind of the scores in a CSV file is inferred from the values: logits
            if any value is negative (with a warning), or probabilities if all values are in [0, 1] (reported in
            `Scores.note`).
        labels: Labels to read, in this order; None reads all labels.

    Raises:
        PredictionsError: The file cannot be read, a cell is not a number, an id is repeated, a label is missing, or the
            file or its values do not match the kind (for example, percentages, or probabilities outside [0, 1] by more
            than 1e-4).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        if kind == "probabilities":
            raise PredictionsError(
                f"{path}: .npz files contain logits, not probabilities; store probabilities in a .csv file"
            )
        stored = Predictions.load(path)
        scores = Scores(path, stored.labels, stored.sample_ids, stored.logits, "logits", stored.targets)
        scores = scores.of_labels(labels)
        if kind is None and scores.values.size and scores.values.min() >= 0:  # may be probabilities
            findings.warn(INSIDE, str(path))
        return scores
    if suffix == ".csv":
        scores = _read_csv_scores(path, findings, labels)
        return _of_kind(scores, kind, findings)
    if suffix == ".jsonl":
        if kind == "logits":
            raise PredictionsError(
                f"{path}: .jsonl files written by mlrec predict contain probabilities, not logits; omit --logits"
            )
        scores = _read_jsonl_scores(path, findings).of_labels(labels)
        return _of_kind(scores, "probabilities", findings)
    raise PredictionsError(f"{path}: expected an .npz, .csv or .jsonl file with scores")


def _of_kind(scores: Scores, stated: ScoreKind | None, findings: ValidationReport) -> Scores:
    """Set the kind of the scores, and clip probabilities to [0, 1]."""
    try:
        kind = stated or implied_kind(scores.values)
        if kind == "logits":
            if stated is None:
                findings.warn(OUTSIDE, str(scores.path))
            return replace(scores, kind="logits")
        values, moved = clipped(scores.values)
    except PredictionsError as error:
        raise PredictionsError(f"{scores.path}: {error}") from error
    if moved:
        findings.warn(CLIPPED, f"{moved} in {scores.path}")
    note = f"{scores.path}: {DECIDED}" if stated is None else ""
    return replace(scores, values=values, kind="probabilities", note=note)


def _read_csv_scores(path: Path, findings: ValidationReport, labels: Sequence[str] | None) -> Scores:
    """Read the numbers in a CSV file; the kind of the scores is inferred later."""
    file = read_csv(path, findings, PredictionsError, drop_index=True, leading=PREDICT_COLUMNS)
    ids = Texts.of(cell.strip() for cell in file.column(0))
    for row, name in enumerate(ids):
        if not name:
            findings.error(file.where(row, 0), "the cell is empty; enter the id of a sample")
    for name in repeated(ids):
        lines = [str(file.lines[row]) for row, other in enumerate(ids) if other == name]
        findings.error(
            f"{path}", f"'{name}' is scored twice, on lines {' and '.join(lines[:2])}; keep only one of them"
        )
    # `mlrec predict` writes two columns before those of labels; a label may be called `labels` as well.
    first = 1
    if file.columns[: len(PREDICT_COLUMNS)] == PREDICT_COLUMNS:
        first = len(PREDICT_COLUMNS)
    known = file.columns[first:]
    names = known if labels is None else labels
    for name in names:
        if name not in known:
            findings.error(f"{path}", f"unknown label '{name}'{nearest(name, known)}")
    columns = [first + known.index(name) for name in names if name in known]
    values = _numbers(file, columns, findings)
    one_line(findings, PredictionsError)
    return Scores(path, tuple(names), ids, values, "probabilities")


def _read_jsonl_scores(path: Path, findings: ValidationReport) -> Scores:
    """Read the lines `{"id": ..., "scores": {label: probability}}` from `mlrec predict --format jsonl`."""
    lines = [(k, line) for k, line in enumerate(read_text(path, PredictionsError).split("\n"), start=1) if line.strip()]
    ids: list[str] = []
    rows: list[list[float]] = []
    names: list[str] = []
    for k, line in lines:
        where = f"{path}: line {k}"
        identity, scores = _json_line(line, where)
        names = names or list(scores)
        if list(scores) != names:
            raise PredictionsError(
                f"{where}: the labels differ from those in the first line; use a file from only one model"
            )
        ids.append(identity)
        rows.append(list(scores.values()))
    if not rows:
        raise PredictionsError(f"{path}: the file is empty; expected one line per sample")
    labels = tuple(clean_label(name, f"{path}", findings) for name in names)
    one_line(findings, PredictionsError)
    if twice := duplicates_in(ids):
        raise PredictionsError(f"{path}: '{twice[0]}' is scored twice; keep one line")
    return Scores(path, labels, tuple(ids), np.array(rows, dtype=np.float64), "probabilities")


def _json_line(line: str, where: str) -> tuple[str, dict[str, float]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if twice := duplicates_in(key for key, _ in pairs):
            raise PredictionsError(f"{where}: key '{twice[0]}' occurs twice; remove one")
        return dict(pairs)

    try:
        record = json.loads(line, object_pairs_hook=unique, parse_int=float)
    except (ValueError, RecursionError) as error:
        if isinstance(error, PredictionsError):
            raise
        raise PredictionsError(f"{where}: not valid JSON ({error})") from error
    scores = record.get("scores") if isinstance(record, dict) else None
    if not isinstance(scores, dict) or not scores or not isinstance(record.get("id"), str):
        raise PredictionsError(f'{where}: expected {{"id": ..., "scores": {{label: probability, ...}}}}')
    for label, score in scores.items():
        if not isinstance(score, float):
            raise PredictionsError(f"{where}: the score of '{label}' is not a number; correct the score")
    return record["id"], scores


def one_line(findings: ValidationReport, kind: type[PredictionsError | DataError]) -> None:
    """Raise one exception that states the first error and the number of further errors."""
    if not findings.errors:
        return
    message = findings.errors[0]
    others = len(findings.errors) - 1
    if others:
        message += f" (and {counted(others, 'more such error')})"
    raise kind(message)


def _numbers(file: TextTable, columns: Sequence[int], findings: ValidationReport) -> NDArray[np.float64]:
    values = np.zeros((len(file.rows), len(columns)))
    for row, cells in enumerate(file.rows):
        texts = [cells[column] for column in columns]
        try:
            values[row] = [float(text) for text in texts]
        except ValueError:
            texts = [text if is_number(text) else "" for text in texts]
        for column, text in zip(columns, texts, strict=True):
            if not text or "_" in text:
                findings.error(file.where(row, column), f"'{cells[column]}' is not a number; correct the cell")
    return values
