"""`mlrec tune`: choose thresholds and calibrate a model on a split that is not used to report metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.analysis.groups import numbered
from mlrec.datasets.manifest import image_of
from mlrec.metrics.calibration import Reliability, fit_calibration, reliability
from mlrec.metrics.conventions import CONVENTIONS
from mlrec.metrics.precision_recall import RATES, count, rates
from mlrec.metrics.thresholds import LEAST_POSITIVES, find_thresholds, target_named
from mlrec.predictions import Predictions
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord
from mlrec.run_folders.tuned import Tuned, TunedLabel
from mlrec.utils.errors import DataError, PredictionsError, UsageError, counted
from mlrec.utils.files import MODEL_FILE, file_in
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate.evaluate import EvalTarget, evaluate_run, record_at, resolve_eval_target, seen_in_training
from mlrec.workflows.runtime import RuntimeOptions

logger = logging.getLogger(__name__)
FOLDS = 5
Tuner = Callable[[Predictions], Tuned]


@dataclass(frozen=True)
class ThresholdReport:
    """Metrics for decisions and probabilities on a split.

    Attributes:
        on: Split and evaluation procedure, as text.
        how: Decision rule: "p ≥ 0.5" (probability of at least 0.5) or "tuned" (tuned thresholds).
        rates: CP, CR, CF1, OP, OR, OF1, and the mean F1 over labels, as fractions; None if undefined.
        reliability: Calibration metrics of the probabilities; None if no target is known.
    """

    on: str
    how: str
    rates: dict[str, float | None]
    reliability: Reliability | None


@dataclass(frozen=True)
class TuneResult:
    """Result of `tune`: thresholds and calibration, with metrics before and after tuning.

    Attributes:
        file: Written file.
        tuned: Thresholds and calibration.
        judged: Two reports, before and after tuning, on the split for tuning (5-fold). If the run stores predictions
            for a different split, two reports on this split follow; samples that were used for tuning are excluded.
    """

    file: Path
    tuned: Tuned
    judged: list[ThresholdReport]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-compatible data that `mlrec tune --json` prints."""
        content: dict[str, Any] = msgspec.to_builtins({"thresholds": self.tuned, "judged": self.judged})
        return {"file": str(self.file), **content}


def tune(
    model: Path | str | None = None,
    *,
    split: str = "val",
    data: Path | str | None = None,
    target: str = "CF1",
    precision: float | None = None,
    least: int = LEAST_POSITIVES,
    machine: RuntimeOptions | None = None,
    runs_root: Path | str = "runs",
    data_root: Path | str = "data",
    progress: Progress = SILENT,
) -> TuneResult:
    """Choose thresholds and calibrate a model.

    `thresholds.json`, which is used by `--tuned`, is written next to the model; an existing file is replaced.

    If predictions of this model for the split are already stored, the model is not run. Otherwise, the split is
    evaluated with `evaluate_run`, which stores the predictions.

    Args:
        model: Model, see `evaluate_run`.
        split: Split for tuning; it should differ from the split whose metrics are reported.
        data: Dataset, see `evaluate_run`.
        target: Name of the metric to maximize, see `TARGETS`.
        precision: Minimum precision for each label; replaces `target`.
        least: Minimum number of positives for a separate threshold and slope; labels with fewer positives use the
            common threshold and slope.
        machine: Runtime options.
        runs_root: Folder of runs, used if `model` is None.
        data_root: Folder of datasets, used if the run has no dataset.
        progress: Progress display.

    Raises:
        UsageError: The target metric is unknown, `precision` is not above 0 and at most 1, or `target` is "precision"
            but `precision` is None.
        MlrecError: The model, the data or the split does not exist, or the split has no positives or only one image.
    """
    if precision is not None:
        if not 0 < precision <= 1:
            raise UsageError(f"the minimum precision must be above 0 and at most 1, got {precision:g}")
        target = "precision"
    elif target_named(target) == "precision":
        raise UsageError("--target precision requires a minimum precision; add, for example, --min-precision 0.9")
    metric = target_named(target)
    eval_target = resolve_eval_target(model, data, split, labels=None, runs_root=runs_root, data_root=data_root)
    record = record_at(eval_target.model)
    trained_on = _warn_overlaps(eval_target, record)
    predictions = _predictions(eval_target, record, machine, progress)
    if predictions.targets is None or not (predictions.targets == 1).any():
        raise PredictionsError(
            f"{eval_target.manifest.name}/{split}: tuning requires positive labels, but the split has none; choose a "
            "different split"
        )

    def tuner(part: Predictions) -> Tuned:
        return _tuned(part, eval_target, metric, precision, least, trained_on)

    tuned = tuner(predictions)
    # Metrics on the split itself would be optimistic, so each fifth is scored by the thresholds of the others.
    reports = _cross_fitted(predictions, tuner, f"{eval_target.manifest.name} {split}")
    _warn_no_gain(reports, metric)
    return TuneResult(tuned.save(eval_target.model), tuned, [*reports, *_reported_split(eval_target, record, tuned)])


def _tuned(
    predictions: Predictions, target: EvalTarget, metric: Any, precision: float | None, least: int, trained_on: int
) -> Tuned:
    """Choose thresholds and calibration from predictions."""
    assert predictions.targets is not None
    chosen = find_thresholds(predictions.logits, predictions.targets, metric, precision=precision or 0.0, least=least)
    calibration = fit_calibration(predictions.logits, predictions.targets, least=least)
    positives = (predictions.targets == 1).sum(axis=0)
    labels = {}
    for k, label in enumerate(predictions.labels):
        threshold = None
        if np.isfinite(chosen.values[k]):
            threshold = float(chosen.values[k])
        labels[label] = TunedLabel(
            threshold=threshold,
            slope=float(calibration.slopes[k]),
            offset=float(calibration.offsets[k]),
            positives=int(positives[k]),
            own=bool(chosen.own[k]),
        )
    return Tuned(
        target=metric if precision is None else f"precision ≥ {precision:g}",
        dataset=target.manifest.name,
        split=target.manifest.split,
        samples=len(target.manifest),
        digest=target.manifest.digest,
        trained_on=trained_on,
        labels=labels,
    )


def _warn_overlaps(target: EvalTarget, record: RunRecord | None) -> int:
    """Warn if the split is the reported split or was used for training.

    Returns the number of samples in the split that were used for training.
    """
    name, split = target.manifest.name, target.manifest.split
    scored = record.scored if record else None
    if scored and (scored.dataset, scored.split) == (name, split):
        logger.warning(
            f"the thresholds are chosen on {name}/{split}, on which this run also reports its metrics; use a held-out "
            "split instead (mlrec split). The metrics below are cross-fitted"
        )
    seen = seen_in_training(record, target.manifest)
    if seen:
        logger.warning(
            f"the model was trained on {seen:,} of the {counted(len(target.manifest), 'sample')} in {split}, so "
            "the probabilities of these samples are overconfident, and the thresholds and the calibration are "
            "unreliable for new samples; hold out a split (mlrec split)"
        )
    return seen


def _predictions(
    target: EvalTarget, record: RunRecord | None, machine: RuntimeOptions | None, progress: Progress
) -> Predictions:
    """Return the stored predictions for the split if they match; otherwise compute predictions."""
    folder, manifest = target.folder("eval"), target.manifest
    if record is not None and record.scored is not None and record.scored.digest == manifest.digest:
        file = target.model / directory.PREDICTIONS
        if file.is_file():
            logger.info(f"predictions: {file}")
            return Predictions.load(file)
    else:
        model = file_in(target.model, MODEL_FILE)
        file = folder / directory.PREDICTIONS
        # an evaluation that is older than the model file is of another model
        if file.is_file() and (not model.is_file() or file.stat().st_mtime >= model.stat().st_mtime):
            stored = Predictions.load(file)
            if stored.digest == manifest.digest:
                logger.info(f"predictions: {file}")
                return stored
    logger.info(f"computing the predictions; they will be stored in {folder}")
    return evaluate_run(
        target.model, data=target.dataset.path, split=manifest.split, machine=machine, progress=progress
    ).predictions


def _warn_no_gain(reports: list[ThresholdReport], target: str) -> None:
    """Warn if tuning does not improve the target on held-out samples."""
    before, after = (report.rates.get(target) for report in reports)
    if before is not None and after is not None and after <= before:
        logger.warning(
            f"tuning does not improve {target} on held-out samples ({100 * after:.1f}% with tuning, "
            f"{100 * before:.1f}% "
            "at p >= 0.5), probably because the split has too few samples; use more samples, a different --target, "
            "or p >= "
            "0.5"
        )


def _cross_fitted(predictions: Predictions, tuner: Tuner, name: str) -> list[ThresholdReport]:
    """Return metrics on the tuning split before and after tuning.

    Each of five folds is scored with thresholds from the other four.
    """
    assert predictions.targets is not None
    predicted = np.zeros(predictions.logits.shape, dtype=np.bool_)
    calibrated = np.zeros(predictions.logits.shape)
    for held_out in _folds(predictions.sample_ids):
        tuned = tuner(_rows(predictions, ~held_out))
        predicted[held_out] = predictions.logits[held_out] >= tuned.thresholds
        calibrated[held_out] = tuned.calibrated(predictions.logits[held_out])
    on = f"{name}, {counted(len(predicted), 'sample')}; 5-fold: tuned on four folds, scored on the fifth"
    return [
        _threshold_report(on, "p ≥ 0.5", predictions.logits >= 0, predictions.logits, predictions.targets),
        _threshold_report(on, "tuned", predicted, calibrated, predictions.targets),
    ]


def _reported_split(target: EvalTarget, record: RunRecord | None, tuned: Tuned) -> list[ThresholdReport]:
    """Return metrics on the reported split before and after tuning, if tuning used a different split."""
    scored, file = record.scored if record else None, target.model / directory.PREDICTIONS
    if scored is None or scored.digest == target.manifest.digest or not file.is_file():
        return []
    predictions, tuned_on = Predictions.load(file), set(target.manifest.sample_ids)
    others = np.array([sample not in tuned_on for sample in predictions.sample_ids])
    if predictions.targets is None or not others.any():
        return []
    predictions = _rows(predictions, others)
    assert predictions.targets is not None
    ordered, logits = tuned.ordered(predictions.labels), predictions.logits
    on = f"{scored.dataset} {scored.split}, {counted(int(others.sum()), 'sample')}"
    if not others.all():
        on += f" out of {len(others):,} (not used for tuning)"
    return [
        _threshold_report(on, "p ≥ 0.5", logits >= 0, logits, predictions.targets),
        _threshold_report(on, "tuned", logits >= ordered.thresholds, ordered.calibrated(logits), predictions.targets),
    ]


def _threshold_report(
    on: str, how: str, predicted: NDArray[np.bool_], logits: NDArray[np.floating[Any]], targets: NDArray[np.int8]
) -> ThresholdReport:
    overall = rates(count(predicted, targets, CONVENTIONS["mlrec"]), CONVENTIONS["mlrec"])
    macro = rates(count(predicted, targets, CONVENTIONS["macro-f1"]), CONVENTIONS["macro-f1"])
    values = {name: float(overall[name]) for name in RATES} | {"F1": float(macro["CF1"])}
    defined = {name: None if np.isnan(value) else value for name, value in values.items()}
    return ThresholdReport(on, how, defined, reliability(logits, targets))


def _folds(sample_ids: Sequence[str]) -> Iterator[NDArray[np.bool_]]:
    """Yield one sample mask per fold: five folds, or one fold per image for fewer than five images.

    All persons in an image are in the same fold.
    """
    image = numbered([image_of(sample) for sample in sample_ids])  # persons of one image are alike
    images = int(image.max()) + 1
    if images < 2:
        raise DataError("the split has only one image, but tuning needs at least two; choose a different split")
    part = np.random.default_rng(0).permutation(images) % min(FOLDS, images)
    for fold in range(min(FOLDS, images)):
        yield part[image] == fold


def _rows(predictions: Predictions, rows: NDArray[np.bool_]) -> Predictions:
    assert predictions.targets is not None
    names = tuple(name for name, kept in zip(predictions.sample_ids, rows, strict=True) if kept)
    return Predictions(predictions.labels, names, predictions.logits[rows], predictions.targets[rows])
