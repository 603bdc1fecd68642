"""`mlrec lambda-sweep`: λ · maximum added to a trained model at test time (Figure 1, Table 1); one pass for all λ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from mlrec.datasets.manifest import image_of, label_columns
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
from mlrec.runs import evaluations
from mlrec.utils import processes
from mlrec.utils.errors import PredictionsError, UsageError, counted
from mlrec.utils.files import replace_folder, write_json
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate import write_scores
from mlrec.workflows.evaluate.evaluate import (
    EvalTarget,
    config_of,
    record_at,
    resolve_eval_target,
    run_model,
    seen_in_training,
)
from mlrec.workflows.runtime import RuntimeOptions

FORMS = ("raw", "divided")


@dataclass(frozen=True)
class LambdaSweepConfig:
    """What is asked of the one pass.

    Attributes:
        lams: the grid; 0 is added to it.
        temperatures: T of the attention that λ weighs; left out, those of a CSRA head, for other heads the maximum.
        select_on: the split that chooses λ; left out, the scored one itself, and marked so.
        divide: store logits divided by 1 + λ; both forms are scored and recorded.
        resamples: of the intervals; 0 for none.
        by_size: AP by size and number of objects, too.
    """

    lams: Sequence[float]
    temperatures: Sequence[float] = ()
    select_on: str | None = None
    divide: bool = False
    resamples: int = RESAMPLES
    by_size: bool = False

    def __post_init__(self) -> None:
        if not self.lams or not all(lam >= 0 and math.isfinite(lam) for lam in self.lams):
            raise UsageError(f"--lam {list(self.lams)}: give finite numbers of at least 0")
        if not all(t > 0 for t in self.temperatures):
            raise UsageError(f"--temperatures {list(self.temperatures)}: each above 0; inf means max")

    @property
    def settings(self) -> list[LambdaSetting]:
        """Every λ at every temperature, λ = 0 once and first."""
        lams = sorted({0.0, *self.lams})
        return [LambdaSetting(lam, k) for k in range(max(1, len(self.temperatures))) for lam in lams if lam or k == 0]


@dataclass(frozen=True)
class LambdaSweepResult:
    """What was found, the folder it lies in, and how it is shown."""

    path: Path
    sweep: LambdaSweep
    strata: list[SizeBin]
    tables: list[Table]

    @property
    def content(self) -> dict[str, Any]:
        """For programs: that of `lambda.json`, and the strata where they were asked for."""
        found: dict[str, Any] = msgspec.to_builtins(self.sweep)
        return found | ({"by_extent": msgspec.to_builtins(self.strata)} if self.strata else {})


def lambda_sweep(
    model: Path | str | None,
    question: LambdaSweepConfig,
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
    """Score a trained model at every λ; `lambda.json` and the predictions at the fixed λ go to a folder beside it.

    Other arguments as in `evaluate_run`.

    Raises:
        MlrecError: as `evaluate_run`; a head without an average; no positive to choose by; a choice on scored images.
    """
    progress = progress if processes.rank() == 0 else SILENT
    chosen = resolve_eval_target(
        model, data, split, labels=labels, runs_root=runs_root, data_root=data_root, progress=progress
    )
    conventions_named(conventions)
    apart = None if question.select_on is None else _apart(chosen, question.select_on, progress)
    predictions, parts, facts = _pass(chosen, question, machine or RuntimeOptions(), progress)
    names = list(labels or predictions.labels)
    scored = parts.columns(label_columns(predictions.labels, names, "predictions", PredictionsError))
    write_scores.warn_undefined(scored.targets, names, progress)
    settings = question.settings
    scores = mean_precisions(scored, settings, conventions)
    options: dict[str, Any] = {
        "groups": [image_of(sample) for sample in predictions.sample_ids], "conventions": conventions
    }  # fmt: skip
    if apart is None:
        if question.resamples:
            times = counted(question.resamples, "resample")
            progress.say(f"repeating the choice of λ in {times}; --resamples 0 leaves it out")
        best = chosen_here(scored, settings, scores, question.resamples, **options)
    else:
        selected, other, _ = _pass(apart, question, machine or RuntimeOptions(), progress)
        columns = label_columns(selected.labels, names, "predictions", PredictionsError)
        there = mean_precisions(other.columns(columns), settings, conventions)
        setting = settings[there.index(max(there))]
        best = chosen_before(scored, setting, question.resamples, **options)
    fixed = chosen_before(scored, LambdaSetting(_fixed(facts)), question.resamples, **options)
    sweep = _sweep(chosen, question, scored, scores, fixed, best, facts | {"labels": names}, conventions)
    tables = [lambda_table(sweep, f"λ at test time: {chosen.model.name} on {sweep.dataset} {sweep.split}")]
    strata = (
        _by_size(chosen, predictions.sample_ids, names, scored, fixed.setting, question.resamples)
        if question.by_size
        else []
    )
    if strata:
        tables.append(
            size_table(strata, ["average", f"λ = {fixed.setting.lam:g}", _alone(facts["model"]["head"], question)])
        )
    found = LambdaSweepResult(chosen.folder("lambda"), sweep, strata, tables)
    if processes.rank() == 0:
        shown = parts.logits(fixed.setting, divided=question.divide)
        final = Predictions(predictions.labels, predictions.sample_ids, shown, parts.targets, predictions.digest)
        with replace_folder(found.path) as temporary:
            write_scores.write_scores(temporary, final, write_scores.score(final, conventions, labels))
            write_json(temporary / FILE, found.content)
            own = {"config": config_of(chosen.model), "lam_at_test": True}
            write_json(temporary / evaluations.FILE, chosen.facts(names, facts["environment"]) | own)
    return found


def _apart(chosen: EvalTarget, split: str, progress: Progress) -> EvalTarget:
    """The split that chooses; an image that is scored must not choose as well, or † would be left out wrongly."""
    apart = chosen.on_split(split)
    scored = set(chosen.manifest.images)
    if shared := sum(image in scored for image in set(apart.manifest.images)):
        raise UsageError(
            f"--select-on {split}: {shared:,} of its images are scored, too, as part of {chosen.manifest.split}; "
            "name a split of other images, or leave --select-on out: the choice is then marked as such"
        )
    if seen := seen_in_training(record_at(chosen.model), apart.manifest):
        progress.warn(
            f"the model was trained on {seen:,} of the {counted(len(apart.manifest), 'sample')} of {split}, "
            f"which it knows: the "
            "λ that is best there is not that of new images; hold a split out (mlrec split)"
        )
    return apart


def _pass(
    chosen: EvalTarget, question: LambdaSweepConfig, machine: RuntimeOptions, progress: Progress
) -> tuple[Predictions, Parts, dict[str, Any]]:
    """The one pass over a split; and what the model is."""
    from mlrec.models.checkpoint import read_metadata
    from mlrec.training.prediction import predict_parts

    one_pass = partial(predict_parts, temperatures=tuple(question.temperatures))
    (average, added), environment = run_model(chosen.model, chosen.manifest, machine, progress, one_pass)
    if average.targets is None:
        raise UsageError("nothing to score")
    model = read_metadata(chosen.model).architecture.to_dict()
    return average, Parts(average.logits, added, average.targets), {"environment": environment, "model": model}


def _alone(head: str, question: LambdaSweepConfig) -> str:
    degrees = question.temperatures[:1]
    return "attention alone" if head == "csra" or any(map(math.isfinite, degrees)) else "maximum alone"


def _fixed(facts: dict[str, Any]) -> float:
    """The λ that is fixed beforehand: that of training for CSRA, else the paper's by backbone."""
    from mlrec.models.paper_checkpoints import fixed_lam

    model = facts["model"]
    return float(model["lam"]) if model["head"] == "csra" else fixed_lam(model["backbone"], model["head"])


def _sweep(
    chosen: EvalTarget,
    question: LambdaSweepConfig,
    parts: Parts,
    scores: Sequence[float],
    fixed: Choice,
    best: Choice,
    facts: dict[str, Any],
    conventions: str,
) -> LambdaSweep:
    settings, names = question.settings, [_degree(t) for t in question.temperatures]
    mAP = dict(zip(settings, scores, strict=True))
    lams = sorted({setting.lam for setting in settings})
    by_temperature = [[mAP[LambdaSetting(lam, k if lam else 0)] for lam in lams] for k in range(max(1, len(names)))]
    three = {"zero": LambdaSetting(0.0), "fixed": fixed.setting, "best": best.setting}
    metrics = {
        key: {form: _numbers(parts, setting, form, conventions) for form in FORMS} for key, setting in three.items()
    }
    scored = write_scores.scored_facts(chosen.dataset, chosen.manifest)
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
        select_split=question.select_on,
        gain=_gain(best),
        fixed_gain=_gain(fixed),
        head=facts["model"]["head"],
        backbone=facts["model"]["backbone"],
        form=FORMS[question.divide],
        metrics=metrics,
        temperatures=list(names),
        by_temperature=by_temperature if len(names) > 1 else [],
        best_temperature=names[best.setting.temperature] if names else None,
    )


def _numbers(parts: Parts, setting: LambdaSetting, form: str, conventions: str) -> dict[str, float | None]:
    found = evaluate(
        parts.logits(setting, divided=form == "divided"), parts.targets, conventions=conventions, scores="logits"
    )
    return {name: getattr(found, name) for name in METRICS}


def _gain(choice: Choice) -> Gain | None:
    return None if choice.gain is None else Gain(choice.gain.value, choice.gain.low, choice.gain.high)


def _degree(temperature: float) -> float | str:
    return "inf" if math.isinf(temperature) else temperature


def _by_size(
    chosen: EvalTarget,
    sample_ids: Sequence[str],
    names: Sequence[str],
    parts: Parts,
    fixed: LambdaSetting,
    resamples: int,
) -> list[SizeBin]:
    """Average pooling, the fixed λ, and the maximum (the attention) alone, by size and number of objects."""
    found = extents(load_objects(chosen.dataset, chosen.manifest.split), chosen.manifest.labels).columns(names)
    methods = [parts.average, parts.logits(fixed), parts.added[0]]
    groups = [image_of(sample) for sample in sample_ids]
    return ap_by_size(methods, parts.targets, found, resamples=resamples, groups=groups)
