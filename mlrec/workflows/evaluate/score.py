"""`mlrec score`: score predictions of any origin against the ground truth, without torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.csv_labels import read_csv_labels
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.metrics.conventions import Conventions, ScoreKind, conventions_named
from mlrec.metrics.scores import Scores, one_line, read_scores
from mlrec.metrics.summary import Metrics
from mlrec.run_folders.record import warn_undefined
from mlrec.utils.errors import DataError, PredictionsError, UsageError, ValidationReport
from mlrec.utils.names import label_columns

logger = logging.getLogger(__name__)
OTHER_FILES = (".npz", ".npy", ".parquet", ".xlsx", ".xls", ".tsv", ".txt")


def score(
    predictions: Path,
    truth: Path | None = None,
    *,
    split: str | None = None,
    kind: ScoreKind | None = None,
    labels: Sequence[str] | None = None,
    conventions: str | Conventions = "mlrec",
    top: int | None = None,
) -> Metrics:
    """Compute metrics for predictions in a file.

    Args:
        predictions: File with the predictions. An `.npz` file contains the arrays `logits`, `sample_ids`, `labels` and
            optionally `targets`. A CSV file has the columns `filename,<label>...`. The output of `mlrec predict`
            (`.csv` or `.jsonl`) is also supported.
        truth: Ground truth: a CSV file, a manifest file, or the folder of a prepared dataset. A CSV file has the
            columns `filename,<label>...` and the values 1 (positive), 0 (negative) and -1 (unknown). By default, the
            targets in the `.npz` file are used.
        split: Split of the ground truth, if there are multiple splits.
        kind: "logits" or "probabilities". If None, the kind is inferred from the values in a CSV file: logits if any
            value is negative, probabilities if all values are in [0, 1]. The inferred kind is logged. An `.npz` file
            always contains logits, and a `.jsonl` file always contains probabilities.
        labels: Labels to score; all other labels are removed before metrics are computed.
        conventions: Scoring conventions: a name in `CONVENTIONS`, or a `Conventions` object.
        top: Number K of labels per sample. If set, precision, recall and F1 are also computed with the K
            highest-scoring labels of each sample as predictions.

    Raises:
        MlrecError: The files cannot be read, or do not match each other.
    """
    rules = conventions_named(conventions)
    findings = ValidationReport()
    if truth is None and split is not None:
        raise UsageError("--split requires TRUTH; pass the ground truth as the second argument")
    manifest = None
    if truth is not None:  # read first, so that its errors come first
        manifest = read_truth(truth, split, labels, findings)
    scores = read_scores(predictions, findings, kind=kind, labels=labels)
    if manifest is not None:
        scores = scores.against(manifest)
    metrics = scores.evaluate(rules, top=top)
    report_findings([scores], findings)
    if scores.targets is not None:
        warn_undefined(scores.targets, scores.labels)
    return metrics


def report_findings(read: Sequence[Scores], findings: ValidationReport) -> None:
    """Log how the kind of the scores was inferred, and log warnings about the score files."""
    for note in dict.fromkeys(scores.note for scores in read if scores.note):
        logger.info(note)
    for line in findings.warnings:
        logger.warning(line)


def read_truth(path: Path, split: str | None, labels: Sequence[str] | None, findings: ValidationReport) -> Manifest:
    """Read the ground truth from a CSV file, a manifest file, or a prepared dataset.

    Args:
        path: CSV file, manifest file, or folder of a prepared dataset.
        split: Name of the split; may be None if there is only one split.
        labels: Labels to keep; by default all.
        findings: Report to which warnings about a CSV file are added.

    Raises:
        DataError: The file or the split does not exist, or a CSV file has no column for a label.
        PredictionsError: A manifest or a dataset does not have a label in `labels`.
        UsageError: There are multiple splits, and `split` is None.
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
    if path.suffix.lower() in OTHER_FILES and path.exists():
        raise DataError(
            f"{path}: expected a .csv file, a manifest (.jsonl) or the folder of a prepared dataset as ground truth; "
            "save the table as CSV"
        )
    manifest = Manifest.load(path)
    _choose(path, split, (manifest.split,))
    return _of_labels(manifest, labels, path)


def _choose(path: Path, split: str | None, splits: Sequence[str] | dict[str, Manifest] | dict[str, int]) -> str:
    names = list(splits)
    shown = ", ".join(names)
    if split is None:
        if len(names) > 1:
            raise UsageError(f"{path} contains multiple splits ({shown}); choose one with --split")
        return names[0]
    if split not in names:
        raise DataError(f"{path}: there is no split '{split}'; choose one of {shown}")
    return split


def _of_labels(manifest: Manifest, labels: Sequence[str] | None, path: Path) -> Manifest:
    if labels is None:
        return manifest
    columns = label_columns(manifest.labels, labels, path, PredictionsError)
    return manifest.of_columns(labels, columns)
