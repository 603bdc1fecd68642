"""Compute metrics of predictions, and write predictions and metrics to a run or evaluation folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import Manifest
from mlrec.datasets.names import label_columns
from mlrec.metrics.average_precision import by_frequency
from mlrec.metrics.conventions import conventions_named
from mlrec.metrics.evaluate import evaluate, evaluate_scores, undefined_labels
from mlrec.metrics.summary import Metrics, label_rows
from mlrec.predictions import Predictions
from mlrec.run_folders import directory
from mlrec.utils.errors import PredictionsError
from mlrec.utils.frame_files import write_csv

if TYPE_CHECKING:
    from mlrec.run_folders.tuned import Tuned

logger = logging.getLogger(__name__)


def metrics_of(
    predictions: Predictions,
    conventions: str = "mlrec",
    labels: Sequence[str] | None = None,
    tuned: Tuned | None = None,
    trained_on: Manifest | None = None,
    top: int | None = None,
) -> Metrics:
    """Compute the metrics of predictions.

    Args:
        predictions: Predictions with targets.
        conventions: Name of the scoring conventions.
        labels: Labels to score; all other labels are removed first [default: all labels].
        tuned: Tuned thresholds [default: a label is predicted if its probability is at least 0.5].
        trained_on: Training split of the model, used to compute the mAP of frequent and rare labels.
        top: Number K of labels per sample. If set, precision, recall and F1 are also computed with the K
            highest-scoring labels of each sample as predictions.

    Raises:
        PredictionsError: A label is unknown, or there are no targets.
    """
    if predictions.targets is None:
        raise PredictionsError(
            "the predictions have no targets, so they cannot be scored; add the ground truth as targets"
        )
    if labels is None:
        labels = predictions.labels
    names = tuple(labels)
    columns = label_columns(predictions.labels, names, "predictions", PredictionsError)
    logits, targets = predictions.logits[:, columns], predictions.targets[:, columns]
    if tuned is None:
        metrics = evaluate(logits, targets, labels=names, conventions=conventions, scores="logits", top=top)
    else:
        rules = replace(conventions_named(conventions), threshold=tuned.in_words(), scores="logits")
        thresholds = tuned.ordered(predictions.labels).thresholds[columns]
        metrics = evaluate_scores(logits, targets, threshold=thresholds, labels=names, conventions=rules, top=top)
    if trained_on is None or not set(names) <= set(trained_on.labels):
        return metrics
    return replace(metrics, by_frequency=by_frequency(metrics.average_precision, trained_on.positives()))


def warn_undefined(targets: NDArray[np.int8], labels: Sequence[str]) -> None:
    """Warn about labels without an AP, and state the reason."""
    for line in undefined_labels(targets, labels):
        logger.warning(line)


def write_scores(folder: Path, predictions: Predictions, metrics: Metrics) -> None:
    """Write `predictions.npz`, `metrics.json` and `per_label.csv` (`Metrics.to_frame`) to `folder`."""
    predictions.save(folder / directory.PREDICTIONS)
    metrics.save(folder / directory.METRICS)
    write_csv(label_rows(metrics), folder / directory.PER_LABEL)
