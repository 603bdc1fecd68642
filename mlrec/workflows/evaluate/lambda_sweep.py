"""`mlrec lambda-sweep`: apply different values of λ to a trained model at test time (Figure 1, Table 1)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from mlrec.datasets.manifest import image_of
from mlrec.datasets.objects import load_objects
from mlrec.metrics.conventions import conventions_named
from mlrec.metrics.evaluate import evaluate
from mlrec.metrics.lambda_sweep import Choice, LambdaSetting, Parts, chosen_before, chosen_here, mean_precisions
from mlrec.metrics.object_size import SizeBin, ap_by_size, extents
from mlrec.metrics.resamples import RESAMPLES
from mlrec.predictions import Predictions
from mlrec.reports.paper.figure1 import lambda_table, size_table
from mlrec.reports.paper.table1 import FILE, Gain, LambdaSweep
from mlrec.reports.render.table import Table
from mlrec.reports.results import METRICS
from mlrec.run_folders import evaluations
from mlrec.run_folders.record import SplitRecord, metrics_of, warn_undefined, write_scores
from mlrec.utils import processes
from mlrec.utils.errors import PredictionsError, UsageError, counted
from mlrec.utils.files import replace_folder, write_json
from mlrec.utils.names import label_columns
from mlrec.utils.progress import SILENT, Progress, first_process_logs
from mlrec.workflows.evaluate.evaluate import (
    EvalTarget,
    config_of,
    record_at,
    resolve_eval_target,
    run_model,
    seen_in_training,
)
from mlrec.workflows.runtime import RuntimeOptions

logger = logging.getLogger(__name__)
FORMS = ("raw", "divided")


@dataclass(frozen=True)
class LambdaSweepConfig:
    """Settings of a λ sweep.

    Attributes:
        lams: At least one value of λ, each finite and at least 0. The value 0 is always included.
        temperatures: Temperatures of the added attention, each greater than 0; by default the temperatures of a CSRA
            head, or ∞ (the maximum) for any other head.
        select_on: Split on which λ is chosen. By default, λ is chosen on the scored split, and the result is marked
            accordingly.
        divide: Whether to divide the stored logits by 1 + λ. Metrics are always computed both with and without the
            division.
        resamples: Number of bootstrap resamples; 0 disables intervals.
        by_size: Whether to also compute AP by object size and by number of objects.

    Raises:
        UsageError: A λ or a temperature is invalid.
    """

    lams: Sequence[float]
    temperatures: Sequence[float] = ()
    select_on: str | None = None
    divide: bool = False
    resamples: int = RESAMPLES
    by_size: bool = False

    def __post_init__(self) -> None:
        if not self.lams or not all(lam >= 0 and math.isfinite(lam) for lam in self.lams):
            raise UsageError(f"--lam {','.join(map(str, self.lams))}: each value must be finite and at least 0")
        if not all(t > 0 for t in self.temperatures):
            raise UsageError(
                f"--temperatures {','.join(map(str, self.temperatures))}: each value must be greater than 0; use inf "
                "for max pooling"
            )

    @property
    def settings(self) -> list[LambdaSetting]:
        """Return every combination of λ and temperature.

        The combination with λ = 0 comes first and occurs only once, because the temperature has no effect at λ = 0.
        """
        positive = sorted({lam for lam in self.lams if lam})
        temperatures = range(max(1, len(self.temperatures)))
        return [LambdaSetting(0.0), *(LambdaSetting(lam, k) for k in temperatures for lam in positive)]


@dataclass(frozen=True)
class LambdaSweepResult:
    """Metrics at every λ, from a λ sweep of a trained model.

    Attributes:
        path: Written folder.
        sweep: Metrics at every λ.
        size_bins: AP by object size and by number of objects; empty if not requested.
        tables: Tables to print: metrics at every λ and, if `size_bins` is not empty, AP by object size and number.
    """

    path: Path
    sweep: LambdaSweep
    size_bins: list[SizeBin]
    tables: list[Table]

    @property
    def content(self) -> dict[str, Any]:
        """Return the content of `lambda.json`."""
        content: dict[str, Any] = msgspec.to_builtins(self.sweep)
        if self.size_bins:
            content["by_extent"] = msgspec.to_builtins(self.size_bins)
        return content


@first_process_logs()
def lambda_sweep(
    model: Path | str | None,
    config: LambdaSweepConfig,
    *,
    data: Path | str | None = None,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    conventions: str = "mlrec",
    machine: RuntimeOptions | None = None,
    runs_root: Path | str = "runs",
    data_root: Path | str = "data",
    progress: Progress = SILENT,
) -> LambdaSweepResult:
    """Score a trained model at each value of λ.

    `lambda.json`, and the metrics and predictions at the fixed λ, are written to the folder `lambda-DATA-SPLIT` in the
    model folder, or next to the model file. An existing folder is replaced.

    Args:
        model: Model, see `evaluate_run`.
        config: Settings of the sweep.
        data: See `evaluate_run`.
        split: See `evaluate_run`.
        labels: See `evaluate_run`.
        conventions: See `evaluate_run`.
        machine: See `evaluate_run`.
        runs_root: See `evaluate_run`.
        data_root: See `evaluate_run`.
        progress: See `evaluate_run`.

    Raises:
        MlrecError: `evaluate_run` would fail, λ cannot be applied to the head (see `residual_parts`), or the split
            `select_on` contains scored images or has no positives.
    """
    if processes.rank() != 0:
        progress = SILENT
    machine = machine or RuntimeOptions()
    target = resolve_eval_target(model, data, split, labels=labels, runs_root=runs_root, data_root=data_root)
    conventions_named(conventions)
    selection = None
    if config.select_on is not None:
        selection = _selection_target(target, config.select_on)
    predictions, parts, facts = _run(target, config, machine, progress)
    names = list(labels or predictions.labels)
    scored = parts.columns(label_columns(predictions.labels, names, "predictions", PredictionsError))
    warn_undefined(scored.targets, names)
    settings = config.settings
    scores = mean_precisions(scored, settings, conventions)
    options: dict[str, Any] = {
        "groups": [image_of(sample) for sample in predictions.sample_ids],
        "conventions": conventions,
    }
    if selection is None:  # the choice is optimistic, so it is repeated in each resample
        if config.resamples:
            times = counted(config.resamples, "resample")
            logger.info(f"choosing λ again in each of {times}; --resamples 0 disables this step")
        best = chosen_here(scored, settings, scores, config.resamples, **options)
    else:
        selected, selected_parts, _ = _run(selection, config, machine, progress)
        columns = label_columns(selected.labels, names, "predictions", PredictionsError)
        selection_scores = mean_precisions(selected_parts.columns(columns), settings, conventions)
        setting = settings[selection_scores.index(max(selection_scores))]
        best = chosen_before(scored, setting, config.resamples, **options)
    fixed = chosen_before(scored, LambdaSetting(_fixed_lam(facts)), config.resamples, **options)
    sweep = _sweep(target, config, scored, scores, fixed, best, facts | {"labels": names}, conventions)
    tables = [lambda_table(sweep, f"λ at test time: {target.model.name} on {sweep.dataset} {sweep.split}")]
    size_bins = []
    if config.by_size:
        size_bins = _by_size(target, predictions.sample_ids, names, scored, fixed.setting, config.resamples)
    if size_bins:
        methods = ["average", f"λ = {fixed.setting.lam:g}", _added_name(facts["model"]["head"], config)]
        tables.append(size_table(size_bins, methods))
    result = LambdaSweepResult(target.folder("lambda"), sweep, size_bins, tables)
    if processes.rank() == 0:  # the other processes have computed the same
        logits = parts.logits(fixed.setting, divided=config.divide)
        final = Predictions(predictions.labels, predictions.sample_ids, logits, parts.targets, predictions.digest)
        with replace_folder(result.path) as temporary:
            write_scores(temporary, final, metrics_of(final, conventions, labels))
            write_json(temporary / FILE, result.content)
            own = {"config": config_of(target.model), "lam_at_test": True}
            write_json(temporary / evaluations.FILE, target.facts(names, facts["environment"]) | own)
    return result


def _selection_target(target: EvalTarget, split: str) -> EvalTarget:
    """Return the split on which λ is chosen.

    The split must not contain scored images, because the result would be optimistic.
    """
    selection = target.on_split(split)
    scored = set(target.manifest.images)
    shared = sum(image in scored for image in set(selection.manifest.images))
    if shared:
        raise UsageError(
            f"--select-on {split}: this split shares {counted(shared, 'image')} with the scored split "
            f"{target.manifest.split}; choose a split with different images, or omit --select-on (the result is "
            "then marked with †)"
        )
    seen = seen_in_training(record_at(target.model), selection.manifest)
    if seen:
        logger.warning(
            f"the model was trained on {seen:,} of the {counted(len(selection.manifest), 'sample')} in {split}, so the "
            "best λ on these samples may not be the best λ on new images; hold out a split (mlrec split)"
        )
    return selection


def _run(
    target: EvalTarget, config: LambdaSweepConfig, machine: RuntimeOptions, progress: Progress
) -> tuple[Predictions, Parts, dict[str, Any]]:
    """Run the model over a split.

    Returns the predictions, the parts of the logits, the environment and the architecture.
    """
    from mlrec.models.checkpoint import read_metadata
    from mlrec.training.prediction import predict_parts

    one_pass = partial(predict_parts, temperatures=tuple(config.temperatures))
    (average, added), environment = run_model(target.model, target.manifest, machine, progress, one_pass)
    if average.targets is None:
        raise UsageError(
            f"{target.manifest.name}/{target.manifest.split}: the split has no targets, so there is nothing to score; "
            "choose a split with annotations"
        )
    model = read_metadata(target.model).architecture.to_dict()
    return average, Parts(average.logits, added, average.targets), {"environment": environment, "model": model}


def _added_name(head: str, config: LambdaSweepConfig) -> str:
    """Return the name of the term that is multiplied by λ."""
    if head == "csra" or any(math.isfinite(temperature) for temperature in config.temperatures[:1]):
        return "attention only"
    return "maximum only"


def _fixed_lam(facts: dict[str, Any]) -> float:
    """Return the fixed λ: the λ used in training for CSRA, otherwise the paper's λ for the backbone."""
    from mlrec.models.paper_checkpoints import fixed_lam

    model = facts["model"]
    if model["head"] == "csra":
        return float(model["lam"])
    return fixed_lam(model["backbone"], model["head"])


def _sweep(
    target: EvalTarget,
    config: LambdaSweepConfig,
    parts: Parts,
    scores: Sequence[float],
    fixed: Choice,
    best: Choice,
    facts: dict[str, Any],
    conventions: str,
) -> LambdaSweep:
    settings = config.settings
    temperatures = ["inf" if math.isinf(temperature) else temperature for temperature in config.temperatures]
    mAP = dict(zip(settings, scores, strict=True))
    lams = sorted({setting.lam for setting in settings})
    at_zero = mAP[LambdaSetting(0.0)]  # does not depend on the temperature
    tried = range(max(1, len(temperatures)))
    by_temperature = [[mAP.get(LambdaSetting(lam, k), at_zero) for lam in lams] for k in tried]
    three = {"zero": LambdaSetting(0.0), "fixed": fixed.setting, "best": best.setting}
    metrics = {
        key: {form: _metrics(parts, setting, form, conventions) for form in FORMS} for key, setting in three.items()
    }
    best_temperature = temperatures[best.setting.temperature] if temperatures else None
    scored = SplitRecord.of(target.dataset, target.manifest)
    return LambdaSweep(
        conventions=conventions,
        lams=lams,
        mAP=by_temperature[0],
        fixed_lam=fixed.setting.lam,
        fixed=metrics["fixed"]["raw"]["mAP"] or 0.0,
        best_lam=best.setting.lam,
        best=mAP[best.setting],
        dataset=scored.dataset,
        split=scored.split,
        samples=scored.samples,
        kind=scored.kind,
        labels=facts["labels"],
        select_split=config.select_on,
        gain=_gain(best),
        fixed_gain=_gain(fixed),
        head=facts["model"]["head"],
        backbone=facts["model"]["backbone"],
        form=FORMS[config.divide],
        metrics=metrics,
        temperatures=list(temperatures),
        by_temperature=by_temperature if len(temperatures) > 1 else [],
        best_temperature=best_temperature,
    )


def _metrics(parts: Parts, setting: LambdaSetting, form: str, conventions: str) -> dict[str, float | None]:
    logits = parts.logits(setting, divided=form == "divided")
    metrics = evaluate(logits, parts.targets, conventions=conventions, scores="logits")
    return {name: getattr(metrics, name) for name in METRICS}


def _gain(choice: Choice) -> Gain | None:
    if choice.gain is None:
        return None
    return Gain(choice.gain.value, choice.gain.low, choice.gain.high)


def _by_size(
    target: EvalTarget,
    sample_ids: Sequence[str],
    names: Sequence[str],
    parts: Parts,
    fixed: LambdaSetting,
    resamples: int,
) -> list[SizeBin]:
    """Return AP by size and number of objects.

    AP is computed for average pooling, for the fixed λ, and for the maximum (or attention) without average pooling.
    """
    object_extents = extents(load_objects(target.dataset, target.manifest.split), target.manifest.labels)
    methods = [parts.average, parts.logits(fixed), parts.added[0]]
    groups = [image_of(sample) for sample in sample_ids]
    return ap_by_size(methods, parts.targets, object_extents.columns(names), resamples=resamples, groups=groups)
