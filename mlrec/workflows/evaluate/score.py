"""`mlrec score`: scores of any origin against a truth. Neither torch nor a model is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import Manifest, label_columns
from mlrec.datasets.readers.csv_labels import read_csv_labels
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.metrics.conventions import Conventions, ScoreKind, conventions_named
from mlrec.metrics.evaluate import Metrics
from mlrec.metrics.scores import Scores, one_line, read_scores
from mlrec.utils.errors import DataError, PredictionsError, UsageError, ValidationReport, printable
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate.write_scores import warn_undefined


def score(
    predictions: Path,
    truth: Path | None = None,
    *,
    split: str | None = None,
    kind: ScoreKind | None = None,
    labels: Sequence[str] | None = None,
    conventions: str | Conventions = "mlrec",
    progress: Progress = SILENT,
) -> Metrics:
    """Score a file of predictions.

    Args:
        predictions: an `.npz` with `logits`, `sample_ids`, `labels` (and `targets`), a CSV `filename,<label>...`, or
            the output of `mlrec predict` (`.csv` or `.jsonl`).
        truth: a CSV `filename,<label>...` with 1, 0, -1, a manifest file, or the folder of a prepared dataset; None
            takes the targets of the `.npz`.
        split: which split, if the truth holds several.
        kind: "logits" or "probabilities". None decides by the values of a CSV: logits if one is negative,
            probabilities if all are in [0, 1]; both decisions are reported.
        labels: score these labels only, before anything else is counted or ranked.
        conventions: a name in `CONVENTIONS`.
        progress: receives notes and warnings.

    Raises:
        MlrecError: files that cannot be read, or do not fit each other.
    """
    rules = conventions_named(conventions)
    findings = ValidationReport()
    if truth is None and split is not None:
        raise UsageError("--split chooses a part of TRUTH; give the truth as a second argument")
    against = None if truth is None else read_truth(truth, split, labels, findings)
    scores = read_scores(predictions, findings, kind=kind, labels=labels)
    if against is not None:
        scores = scores.against(against)
    metrics = scores.evaluate(rules)
    report_findings([scores], findings, progress)
    if scores.targets is not None:
        warn_undefined(scores.targets, scores.labels, progress)
    return metrics


def report_findings(read: Sequence[Scores], findings: ValidationReport, progress: Progress) -> None:
    """Print the warnings about files of scores, and how the kind of their scores was decided."""
    for note in dict.fromkeys(scores.note for scores in read if scores.note):
        progress.say(note)
    for line in findings.warnings:
        progress.warn(line)


def read_truth(path: Path, split: str | None, labels: Sequence[str] | None, findings: ValidationReport) -> Manifest:
    """The manifest of a truth, restricted to `labels`.

    Raises:
        DataError: no such file, no such split, a label that is missing.
        UsageError: several splits, and none was chosen.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv" and not path.is_dir():
        # In a truth -1 is unknown, as documented. Without any 0 no label has an AP, which is a warning.
        options = ReadOptions(labels=None if labels is None else tuple(labels), unknown="-1")
        reading = read_csv_labels(path, options, findings)
        one_line(findings, DataError)
        splits = {manifest.split: manifest for manifest in reading.manifests}
        return splits[_choose(path, split, splits)]
    if path.is_dir():
        dataset = Dataset.load(path)
        return _of_labels(dataset.manifest(_choose(path, split, dataset.info.splits)), labels, path)
    manifest = Manifest.load(path)
    _choose(path, split, (manifest.split,))
    return _of_labels(manifest, labels, path)


def _choose(path: Path, split: str | None, splits: Sequence[str] | dict[str, Manifest] | dict[str, int]) -> str:
    names = list(splits)
    if split is None and len(names) > 1:
        raise UsageError(f"{printable(path)}: holds the splits {', '.join(map(printable, names))}; choose with --split")
    if split is not None and split not in names:
        raise DataError(
            f"{printable(path)}: no split '{printable(split)}'; there is {', '.join(map(printable, names))}"
        )
    return names[0] if split is None else split


def _of_labels(manifest: Manifest, labels: Sequence[str] | None, path: Path) -> Manifest:
    if labels is None:
        return manifest
    columns = label_columns(manifest.labels, labels, path, PredictionsError)
    return replace(manifest, labels=tuple(labels), targets=manifest.targets[:, columns])
