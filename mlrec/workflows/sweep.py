"""`mlrec sweep`: settings → a plan of runs → run folders, by as many workers as there are."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlrec.datasets.folder import Dataset
from mlrec.errors import RunError, UsageError, printable
from mlrec.progress import SILENT, Progress
from mlrec.reports.results import result_of
from mlrec.runs.record import Run
from mlrec.sweeps import studies
from mlrec.sweeps.grid import Point, combinations, divided, in_words, name_of
from mlrec.sweeps.queue import JOURNAL
from mlrec.sweeps.states import Folder, State, record_of, state_of
from mlrec.sweeps.study_file import StudyFile, entry_of
from mlrec.workflows import records
from mlrec.workflows.defaults import Plan, make_plan
from mlrec.workflows.interrupt import Interrupted, deferred_signals
from mlrec.workflows.split import split
from mlrec.workflows.sweep_crew import watch
from mlrec.workflows.sweep_worker import Work

HELD_OUT = 0.25  # of the training split, to choose tuned values on


@dataclass(frozen=True)
class Cell:
    """One setting of everything but seed, fold and what is tuned."""

    label: str
    settings: Mapping[str, Any]
    flags: Mapping[str, Any]


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that is decided.

    Attributes:
        folder: where all its runs lie.
        tuning: runs that come first, to choose a value for each cell.
        cells: the settings; crossed with seeds and folds they are the runs of the sweep.
        pool: the split that folds and held-out parts are made of; None where there are none.
        opened: the data set with the manifests of `splits` read, once for all runs.
    """

    title: str
    notes: Sequence[str]
    folder: Folder
    base: Plan
    file: Path | None
    recipe: str | None
    cells: Sequence[Cell]
    tune: Mapping[str, Sequence[Any]]
    seeds: Sequence[int]
    splits: Sequence[tuple[str, str]]
    tuning: Sequence[Point]
    pool: str | None
    opened: Dataset = field(repr=False)

    def final(self, choices: Mapping[str, Mapping[str, Any]]) -> list[Point]:
        """The runs of the sweep, with the values chosen for each cell by its words."""
        points = []
        for cell in self.cells:
            chosen = choices.get(_key(cell), {})
            for fold, pair in enumerate(self.splits):
                for seed in self.seeds:
                    repeated = {"fold": fold} if len(self.splits) > 1 else {}
                    settings = {**cell.settings, **chosen, **repeated}
                    settings |= {"seed": seed} if len(self.seeds) > 1 else {}
                    flags = {**cell.flags, **chosen, "seed": seed, "train_split": pair[0], "split": pair[1]}
                    points.append(_point(self, cell.label, settings, flags, "run"))
        return points


def plan_sweep(
    flags: Mapping[str, Any],
    *,
    study: str | None = None,
    tune: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | None = None,
    folds: int | None = None,
    file: Path | None = None,
    recipe: str | None = None,
    out: Path | str = "runs",
    name: str | None = None,
    data_root: Path | str = "data",
    progress: Progress = SILENT,
) -> SweepPlan:
    """Decide a sweep; every run's configuration is checked before any is started.

    Args:
        flags: keys of `Config`; a text of several values, `a,b,c` or `start:stop:step`, is an axis.
        study: one of the paper's, see `sweeps.studies`; its variants are crossed with the axes.
        tune: axes whose best value is chosen for each setting alone, on data held out from the training split.
        seeds: each setting is run with each.
        folds: each setting is run on each fold of the training split instead of on the splits themselves.
        file: as `train` takes it.
        recipe: as `train` takes it.
        out: folder of runs; the sweep's own lies in it.
        name: of the sweep's folder; left out, the study's, or the names of the axes.
        data_root: as `train` takes it.
        progress: is told what was filled in.

    Raises:
        ConfigError: a key or value of any run that does not fit.
        UsageError: nothing to sweep over.
    """
    fixed, axes = divided(flags)
    _, tuned = divided(tune or {})
    seeds = seeds or axes.pop("seed", None) or (studies.SEEDS if study else [fixed.get("seed", 0)])
    layers = {"file": file, "recipe": recipe, "data_root": Path(data_root)}
    found = studies.Study("")
    if study is not None:
        studies.check(study)
        csra = {**studies.DEFAULTS[study], **fixed, "head": "csra"}
        found = studies.study(study, make_plan(csra, SILENT, **layers).config)  # type: ignore[arg-type]
        axes = {**{key: list(values) for key, values in found.axes.items()}, **axes}
        tuned = tuned or {key: list(values) for key, values in found.tune.items()}
    if not (axes or study or tuned or folds) and len(seeds) < 2:
        raise UsageError("nothing to sweep over: give several values for a key, such as --lam 0,0.1,0.2")
    if tuned and folds is not None:
        raise UsageError("--tune goes with --seeds, not with --folds: it holds out a part of the training split itself")
    base = make_plan({**found.defaults, **fixed}, progress, **layers)  # type: ignore[arg-type]
    common = {**found.defaults, **fixed, "data": base.config.data}
    cells = [
        Cell(variant.label, combination, {**common, **combination, **variant.flags})
        for variant in found.variants
        for combination in combinations({key: worth for key, worth in axes.items() if key not in variant.flags})
    ]
    folder = Folder(Path(out) / (name or study or "-".join(["sweep", *axes, *tuned])))
    splits, pool = _splits(base, folds, progress)
    plan = SweepPlan(
        title=found.title or f"Sweep over {', '.join([*axes, *tuned]) or 'seeds'}", notes=tuple(found.notes),
        folder=folder, base=base, file=file, recipe=recipe, cells=_distinct(cells), tune=tuned, seeds=tuple(seeds),
        splits=splits, tuning=(), pool=pool, opened=_opened(base, splits),
    )  # fmt: skip
    plan.final({})  # all configurations are checked before anything is written or trained
    if not tuned:
        return plan
    pair = _held_out(base, progress)
    plan = replace(plan, pool=base.train.split, opened=_opened(base, [*splits, pair]))
    return replace(plan, tuning=tuple(_tuning(plan, pair)))


def run_sweep(
    plan: SweepPlan,
    *,
    jobs: int = 1,
    storage: str | None = None,
    retry_failed: bool = False,
    labels: Sequence[str] | None = None,
) -> Iterator[tuple[State, ...]]:
    """Train what is missing; yields how all points of the stage stand, about twice a second, the last time at the end.

    Args:
        plan: what to train.
        jobs: worker processes here; the same command elsewhere adds to them.
        storage: of Optuna: a journal file, or a database's URL; left out, a file in the sweep's folder.
        retry_failed: try once more what failed too often.
        labels: choose tuned values by the mAP of these labels alone.

    Raises:
        Interrupted: SIGINT or SIGTERM; what was under way is saved, and the same command goes on.
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: at least 1")
    choices: dict[str, Mapping[str, Any]] = {}
    with deferred_signals() as stop:
        for stage in ("tune", "run"):
            points = list(plan.tuning) if stage == "tune" else plan.final(choices)
            if not points:
                continue
            _study_file(plan, [*plan.tuning, *(points if stage == "run" else [])]).save(plan.folder.path)
            if retry_failed:
                for point in points:
                    plan.folder.forget_failure(point.name)
            yield from watch(_work(plan, points, storage), points, jobs, stop)
            if stop.number is not None:
                raise Interrupted(f"stopped; the same command goes on with {printable(plan.folder.path)}", stop.number)
            if stage == "tune":
                choices = chosen(plan, points, labels)


def chosen(
    plan: SweepPlan, points: Sequence[Point], labels: Sequence[str] | None = None
) -> dict[str, Mapping[str, Any]]:
    """By cell, the tuned values of the highest mAP on held-out data, the first of equals.

    Raises:
        RunError: all runs of a cell failed.
    """
    values = combinations(plan.tune)
    best: dict[str, Mapping[str, Any]] = {}
    for number, cell in enumerate(plan.cells):
        own = points[number * len(values) : (number + 1) * len(values)]
        scores = [_mAP(plan.folder.run(point.name), labels) for point in own]
        if max(scores) < 0:
            raise RunError(f"{cell.label or in_words(cell.settings)}: no run to choose {', '.join(plan.tune)} by")
        best[_key(cell)] = values[scores.index(max(scores))]
    return best


def states_now(plan: SweepPlan) -> list[State]:
    """How the points stand before anything is started; of tuned ones, the tuning alone."""
    return [state_of(point, plan.folder) for point in plan.tuning or plan.final({})]


def _mAP(run: Path, labels: Sequence[str] | None) -> float:  # noqa: N802 - the metric's name
    """The mAP of a finished run; -1 where there is none."""
    record = record_of(run)
    if record is None or record.status != "finished":
        return -1.0
    value = result_of(Run(run, record), labels=labels).values["mAP"]
    return -1.0 if value is None else value


def _tuning(plan: SweepPlan, pair: tuple[str, str]) -> Iterator[Point]:
    for cell in plan.cells:
        for values in combinations(plan.tune):
            flags = {**cell.flags, **values, "seed": plan.seeds[0], "train_split": pair[0], "split": pair[1]}
            yield _point(plan, cell.label, {**cell.settings, **values}, flags, "tune")


def _point(plan: SweepPlan, label: str, settings: Mapping[str, Any], flags: Mapping[str, Any], stage: str) -> Point:
    opened = plan.opened if flags["data"] == str(plan.opened.path) else None
    run = make_plan(flags, SILENT, file=plan.file, recipe=plan.recipe, dataset=opened)
    identity = records.identity(run, 1)
    identity["config"] = {key: value for key, value in identity["config"].items() if key not in records.FREE}
    return Point(name_of("-".join([label, *(["tune"] * (stage == "tune"))]), settings, identity), label, settings,
                 flags, stage)  # fmt: skip


def _distinct(cells: Sequence[Cell]) -> list[Cell]:
    """Cells without those that say the same as one before."""
    return list({repr(sorted(cell.flags.items())): cell for cell in reversed(cells)}.values())[::-1]


def _key(cell: Cell) -> str:
    return f"{cell.label}: {in_words(cell.settings)}"


def _splits(base: Plan, folds: int | None, progress: Progress) -> tuple[list[tuple[str, str]], str | None]:
    """Pairs of splits to train on and to score, and the split they are parts of."""
    if folds is None:
        return [(base.train.split, base.scored.split)], None
    prefix, pool = f"cv{folds}-", base.train.split
    pairs = [(f"{prefix}fold{k}-train", f"{prefix}fold{k}-val") for k in range(max(folds, 0))]
    if not pairs or not {name for pair in pairs for name in pair} <= set(base.dataset.info.splits):
        made = split(base.dataset.path, folds=folds, pool=pool, prefix=prefix, progress=progress)
        progress.say(f"folds: {', '.join(made.sizes)} added to {printable(base.dataset.path)}")
    return pairs, pool


def _opened(base: Plan, pairs: Sequence[tuple[str, str]]) -> Dataset:
    dataset = Dataset.load(base.dataset.path)  # new splits may have come
    return replace(dataset, loaded={name: dataset.manifest(name) for pair in pairs for name in pair})


def _held_out(base: Plan, progress: Progress) -> tuple[str, str]:
    """Parts of the training split to tune on: its own train and val, or new ones."""
    there, pool = base.dataset.info.splits, base.train.split
    if pool == "trainval" and {"train", "val"} <= set(there) and base.scored.split not in ("train", "val"):
        progress.say("tuning: trained on train, chosen on val")
        return "train", "val"
    if "tune-val" not in there:
        made = split(base.dataset.path, val=HELD_OUT, pool=pool, prefix="tune-", progress=progress)
        progress.say(f"tuning: {', '.join(made.sizes)} added to {printable(base.dataset.path)}")
    return "tune-train", "tune-val"


def _work(plan: SweepPlan, points: Sequence[Point], storage: str | None) -> Work:
    folder = plan.folder.path
    return Work(
        {point.name: point for point in points}, folder, storage or str(folder / JOURNAL), folder.name, plan.file,
        plan.recipe, plan.pool, tuple(sys.argv),
    )  # fmt: skip


def _study_file(plan: SweepPlan, points: Sequence[Point]) -> StudyFile:
    return StudyFile(plan.title, [entry_of(point) for point in points], list(plan.notes), list(plan.tune))
