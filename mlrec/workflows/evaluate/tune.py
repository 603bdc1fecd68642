"""`mlrec tune`: thresholds and calibration of a model, from predictions of a split that is not the reported one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from mlrec.runs import directory
from mlrec.runs.record import RunRecord
from mlrec.runs.tuned import Tuned, TunedLabel
from mlrec.utils.errors import DataError, PredictionsError, UsageError, counted, printable
from mlrec.utils.files import MODEL_FILE
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate.evaluate import EvalTarget, evaluate_run, record_at, resolve_eval_target, seen_in_training
from mlrec.workflows.runtime import RuntimeOptions

FOLDS = 5
Tuner = Callable[[Predictions], Tuned]


@dataclass(frozen=True)
class ThresholdReport:
    """How decisions and probabilities of a split do.

    Attributes:
        on: the split, and how it was judged.
        how: "p ≥ 0.5" or "tuned".
        rates: CP CR CF1 OP OR OF1, and F1, the mean of the labels' own; None where undefined.
        reliability: of the probabilities; None where no truth is known.
    """

    on: str
    how: str
    rates: dict[str, float | None]
    reliability: Reliability | None


@dataclass(frozen=True)
class TuneResult:
    """What was chosen, where it was written, and what it changes."""

    file: Path
    tuned: Tuned
    judged: list[ThresholdReport]

    def to_dict(self) -> dict[str, Any]:
        """What `tune --json` prints."""
        built: dict[str, Any] = msgspec.to_builtins({"thresholds": self.tuned, "judged": self.judged})
        return {"file": str(self.file), **built}


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
    """Choose thresholds and calibrate; written as `thresholds.json` beside the model, used where `--tuned` asks.

    Predictions of the split that an evaluation left beside the model are used as they are, without torch.

    Args:
        model: as for `evaluate_run`.
        split: to choose on; not the one whose numbers are reported.
        data: as for `evaluate_run`.
        target: a name in `TARGETS`.
        precision: the least precision of each label, which is the target then.
        least: labels with fewer positives take the common threshold and slope.
        machine: how to run the model, where its predictions are not there yet.
        runs_root: where the last finished run is looked for.
        data_root: where the dataset prepared last is looked for.
        progress: where bars, notes and warnings go.

    Raises:
        UsageError: no such target.
        MlrecError: no model, no data, no such split, or one without positives.
    """
    if precision is not None:
        if not 0 < precision <= 1:
            raise UsageError(f"precision {precision:g}: must be above 0 and at most 1")
        target = "precision"
    elif target_named(target) == "precision":
        raise UsageError("target precision: say which, with --min-precision 0.9")
    aim = target_named(target)
    chosen = resolve_eval_target(
        model, data, split, labels=None, runs_root=runs_root, data_root=data_root, progress=progress
    )
    record = record_at(chosen.model)
    trained_on = _told_overlaps(chosen, record, progress)
    predictions = _predictions(chosen, record, machine, progress)
    if predictions.targets is None or not (predictions.targets == 1).any():
        raise PredictionsError(f"{chosen.manifest.name}/{split}: has no positive label; there is nothing to tune on")

    def tuner(of: Predictions) -> Tuned:
        return _tuned(of, chosen, aim, precision, least, trained_on)

    tuned = tuner(predictions)
    judged = _cross_fitted(predictions, tuner, f"{chosen.manifest.name} {split}")
    _told_effect(judged, aim, progress)
    return TuneResult(tuned.save(chosen.model), tuned, [*judged, *_reported(chosen, record, tuned)])


def _tuned(
    predictions: Predictions, chosen: EvalTarget, target: Any, precision: float | None, least: int, trained_on: int
) -> Tuned:
    assert predictions.targets is not None
    found = find_thresholds(predictions.logits, predictions.targets, target, precision=precision or 0.0, least=least)
    calibration = fit_calibration(predictions.logits, predictions.targets, least=least)
    positives = (predictions.targets == 1).sum(axis=0)
    return Tuned(
        target=target if precision is None else f"precision ≥ {precision:g}",
        dataset=chosen.manifest.name,
        split=chosen.manifest.split,
        samples=len(chosen.manifest),
        digest=chosen.manifest.digest,
        trained_on=trained_on,
        labels={
            label: TunedLabel(
                threshold=float(found.values[k]) if np.isfinite(found.values[k]) else None,
                slope=float(calibration.slopes[k]),
                offset=float(calibration.offsets[k]),
                positives=int(positives[k]),
                own=bool(found.own[k]),
            )
            for k, label in enumerate(predictions.labels)
        },
    )


def _told_overlaps(chosen: EvalTarget, record: RunRecord | None, progress: Progress) -> int:
    """Warn where the split is the reported one, or was trained on; returns how many of its samples were."""
    name, split = chosen.manifest.name, chosen.manifest.split
    scored = record.scored if record else None
    if scored and (scored.dataset, scored.split) == (name, split):
        progress.warn(
            f"{printable(name)}/{printable(split)} is the split whose numbers this run reports: do not report it with "
            "thresholds chosen on it. The numbers below are cross-fitted; better, hold a split out (mlrec split)"
        )
    both = seen_in_training(record, chosen.manifest)
    if both:
        progress.warn(
            f"the model was trained on {both:,} of the {counted(len(chosen.manifest), 'sample')} of "
            f"{printable(split)}: it is "
            "surer of these than of new ones, so thresholds and calibration are too; hold a split out (mlrec split)"
        )
    return both


def _predictions(
    chosen: EvalTarget, record: RunRecord | None, machine: RuntimeOptions | None, progress: Progress
) -> Predictions:
    """Predictions of the split: those of the run or of an evaluation where they fit, else made now."""
    folder, manifest = chosen.folder("eval"), chosen.manifest
    own = record is not None and record.scored is not None and record.scored.digest == manifest.digest
    model = chosen.model / MODEL_FILE if chosen.model.is_dir() else chosen.model
    for file in (chosen.model / directory.PREDICTIONS,) if own else (folder / directory.PREDICTIONS,):
        if file.is_file() and (own or not model.is_file() or file.stat().st_mtime >= model.stat().st_mtime):
            stored = Predictions.load(file)
            if stored.digest == manifest.digest or own:
                progress.say(f"predictions: {printable(file)}")
                return stored
    progress.say(f"predictions: made now, into {printable(folder)}")
    return evaluate_run(
        chosen.model, data=chosen.dataset.path, split=manifest.split, machine=machine, progress=progress
    ).predictions


def _told_effect(judged: list[ThresholdReport], target: str, progress: Progress) -> None:
    """Warn where the target is missed on samples that did not choose."""
    before, after = (part.rates.get(target) for part in judged)
    if before is not None and after is not None and after <= before:
        progress.warn(
            f"cross-fitted, {target} is {100 * after:.1f} % tuned and {100 * before:.1f} % at p >= 0.5: "
            "too little to choose on; use more samples, another --target, or p >= 0.5"
        )


def _cross_fitted(predictions: Predictions, tuner: Tuner, name: str) -> list[ThresholdReport]:
    """Before and after on the split itself; after: each fifth with what the other four choose."""
    assert predictions.targets is not None
    said = np.zeros(predictions.logits.shape, dtype=np.bool_)
    calibrated = np.zeros(predictions.logits.shape)
    for held in _folds(predictions.sample_ids):
        tuned = tuner(_rows(predictions, ~held))
        said[held] = predictions.logits[held] >= tuned.thresholds
        calibrated[held] = tuned.calibrated(predictions.logits[held])
    on = f"{name}, {counted(len(said), 'sample')}; tuned on four fifths, judged on the fifth, five times"
    return [
        _judged(on, "p ≥ 0.5", predictions.logits >= 0, predictions.logits, predictions.targets),
        _judged(on, "tuned", said, calibrated, predictions.targets),
    ]


def _reported(chosen: EvalTarget, record: RunRecord | None, tuned: Tuned) -> list[ThresholdReport]:
    """Before and after on the split that the run reports, where that is another one."""
    scored, file = record.scored if record else None, chosen.model / directory.PREDICTIONS
    if scored is None or scored.digest == chosen.manifest.digest or not file.is_file():
        return []
    predictions, tuned_on = Predictions.load(file), set(chosen.manifest.sample_ids)
    others = np.array([sample not in tuned_on for sample in predictions.sample_ids])
    if predictions.targets is None or not others.any():
        return []
    predictions = _rows(predictions, others)
    fit, logits = tuned.ordered(predictions.labels), predictions.logits
    part = "" if others.all() else f" of {len(others):,}: those not tuned on"
    on = f"{scored.dataset} {scored.split}, {counted(int(others.sum()), 'sample')}{part}"
    assert predictions.targets is not None
    return [
        _judged(on, "p ≥ 0.5", logits >= 0, logits, predictions.targets),
        _judged(on, "tuned", logits >= fit.thresholds, fit.calibrated(logits), predictions.targets),
    ]


def _judged(
    on: str, how: str, said: NDArray[np.bool_], logits: NDArray[np.floating[Any]], targets: NDArray[np.int8]
) -> ThresholdReport:
    found = {}
    for name, rules in (("mlrec", RATES), ("macro-f1", ("CF1",))):
        values = rates(count(said, targets, CONVENTIONS[name]), CONVENTIONS[name])
        for rule in rules:
            value = float(values[rule])
            found[rule if name == "mlrec" else "F1"] = None if np.isnan(value) else value
    return ThresholdReport(on, how, found, reliability(logits, targets))


def _folds(sample_ids: tuple[str, ...]) -> Iterator[NDArray[np.bool_]]:
    """Five parts, or as many as there are images; persons of one image stay together."""
    image = numbered([image_of(sample) for sample in sample_ids])
    images = int(image.max()) + 1
    if images < 2:
        raise DataError("one image is not enough to tune on")
    part = np.random.default_rng(0).permutation(images) % min(FOLDS, images)
    for fold in range(min(FOLDS, images)):
        yield part[image] == fold


def _rows(predictions: Predictions, rows: NDArray[np.bool_]) -> Predictions:
    assert predictions.targets is not None
    names = tuple(name for name, kept in zip(predictions.sample_ids, rows, strict=True) if kept)
    return Predictions(predictions.labels, names, predictions.logits[rows], predictions.targets[rows])
