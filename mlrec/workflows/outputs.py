"""What a run or an evaluation leaves in its folder beside weights and record."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlrec.datasets.folder import Dataset
from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest
from mlrec.errors import PredictionsError, nearest, printable
from mlrec.files import write_text
from mlrec.metrics.result import Metrics, evaluate
from mlrec.predictions import Predictions
from mlrec.runs import directory
from mlrec.runs.record import Scored


def scored_facts(dataset: Dataset, manifest: Manifest) -> Scored:
    """What a record says of a split that was used."""
    return Scored(
        dataset=dataset.info.name,
        kind=str(dataset.info.source.get("kind", "")),
        split=manifest.split,
        samples=len(manifest),
        digest=manifest.digest,
        path=str(dataset.path.absolute()),
    )


def score(
    predictions: Predictions, conventions: str = "mlrec", labels: Sequence[str] | None = None
) -> tuple[Predictions, Metrics]:
    """Metrics of predictions, of all labels or, before anything else, of some alone; and what was scored.

    Raises:
        PredictionsError: a label that is none of the predictions'; no targets.
    """
    if labels is not None:
        for name in labels:
            if name not in predictions.labels:
                raise PredictionsError(f"no label '{printable(name)}'{nearest(name, predictions.labels)}")
        columns = [predictions.labels.index(name) for name in labels]
        targets = None if predictions.targets is None else predictions.targets[:, columns]
        logits = predictions.logits[:, columns]
        predictions = replace(predictions, labels=tuple(labels), logits=logits, targets=targets)
    if predictions.targets is None:
        raise PredictionsError("the predictions hold no targets; there is nothing to score")
    metrics = evaluate(predictions.logits, predictions.targets, labels=predictions.labels, conventions=conventions)
    return predictions, metrics


def write_scores(folder: Path, predictions: Predictions, metrics: Metrics) -> None:
    """Write `predictions.npz`, `metrics.json` and `per_label.csv` into `folder`."""
    predictions.save(folder / directory.PREDICTIONS)
    metrics.save(folder / directory.METRICS)
    write_text(folder / directory.PER_LABEL, per_label(predictions, metrics))


def per_label(predictions: Predictions, metrics: Metrics) -> str:
    """A CSV with one line a label: its AP (empty where undefined) and how often it is what."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["label", "average_precision", "positives", "negatives", "unknown"])
    targets = (
        predictions.targets if predictions.targets is not None else np.zeros((0, len(predictions.labels)), np.int8)
    )
    for k, label in enumerate(predictions.labels):
        counts = [int(np.count_nonzero(targets[:, k] == value)) for value in (POSITIVE, NEGATIVE, UNKNOWN)]
        shown = "'" + label if label.startswith(("=", "+", "-", "@")) else label  # else a formula to a spreadsheet
        writer.writerow([shown, metrics.average_precision[label], *counts])
    return stream.getvalue()
