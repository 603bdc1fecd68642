"""What a sweep is going to train: settings as typed → points, all checked before any is started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlrec.datasets.folder import Dataset
from mlrec.errors import UsageError, printable
from mlrec.files import check_name
from mlrec.progress import SILENT, Progress
from mlrec.sweeps import studies
from mlrec.sweeps.grid import Point, combinations, divided, in_words, name_of
from mlrec.sweeps.states import Folder
from mlrec.workflows import records
from mlrec.workflows.defaults import Plan, make_plan
from mlrec.workflows.split import split

HELD_OUT = 0.25  # of the training split, to choose tuned values on


@dataclass(frozen=True)
class Cell:
    """One setting of everything but seed, fold and what is tuned."""

    label: str
    settings: Mapping[str, Any]
    flags: Mapping[str, Any]

    @property
    def words(self) -> str:
        """What tells it from the others."""
        return ": ".join(part for part in (self.label, in_words(self.settings)) if part)


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that is decided.

    Attributes:
        folder: where all its runs lie.
        tuning: runs that come first, to choose a value for each cell.
        cells: the settings; crossed with seeds and folds they are the runs of the sweep.
        pool: the split that folds and held-out parts are made of; None where there are none.
        opened: the data set with the manifests of `splits` read, once for all runs.
        trials: search the ranges of `axes` with so many runs, instead of a grid.
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
    trials: int | None = None
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def final(self, choices: Mapping[str, Mapping[str, Any]]) -> list[Point]:
        """The runs of the sweep, with the values chosen for each cell by its words."""
        points = []
        for cell in self.cells:
            chosen = choices.get(cell.words, {})
            for fold, pair in enumerate(self.splits):
                for seed in self.seeds:
                    repeated = {"fold": fold} if len(self.splits) > 1 else {}
                    settings = {**cell.settings, **chosen, **repeated}
                    settings |= {"seed": seed} if len(self.seeds) > 1 else {}
                    flags = {**cell.flags, **chosen, "seed": seed, "train_split": pair[0], "split": pair[1]}
                    points.append(_point(self, cell.label, settings, flags, "run"))
        return points

    def proposed(self, settings: Mapping[str, Any]) -> Point:
        """The run of a search with these values."""
        cell, (train, scored) = self.cells[0], self.splits[0]
        flags = {**cell.flags, **settings, "seed": self.seeds[0], "train_split": train, "split": scored}
        return _point(self, cell.label, settings, flags, "run")


def plan_sweep(
    flags: Mapping[str, Any],
    *,
    study: str | None = None,
    tune: Mapping[str, Any] | None = None,
    seeds: Sequence[int] | None = None,
    folds: int | None = None,
    trials: int | None = None,
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
        trials: so many runs with values between those given, each chosen by what came of the others, and no grid.
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
    if name is not None:
        check_name(name)
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
    if trials is not None and (trials < 1 or study or tuned or folds or len(seeds) > 1 or not axes):
        raise UsageError("--trials N searches over values such as --lr 0.0001,0.1; no study, tuning, folds or seeds")
    base = make_plan({**found.defaults, **fixed}, progress, **layers)  # type: ignore[arg-type]
    common = {**found.defaults, **fixed, "data": base.config.data}
    grid = axes if trials is None else {}
    cells = [
        Cell(variant.label, combination, {**common, **combination, **variant.flags})
        for variant in found.variants
        for combination in combinations({key: worth for key, worth in grid.items() if key not in variant.flags})
    ]
    folder = Folder(Path(out) / (name or study or "-".join(["sweep", *axes, *tuned])))
    splits, pool = _splits(base, folds, progress)
    plan = SweepPlan(
        title=found.title or f"Sweep over {', '.join([*axes, *tuned]) or 'seeds'}", notes=tuple(found.notes),
        folder=folder, base=base, file=file, recipe=recipe, cells=_distinct(cells), tune=tuned, seeds=tuple(seeds),
        splits=splits, tuning=(), pool=pool, opened=_opened(base, splits),
        trials=trials, axes=axes,
    )  # fmt: skip
    if trials is None:
        plan.final({})  # all configurations are checked before anything is written or trained
    for key in axes if trials is not None else ():
        for value in axes[key]:
            plan.proposed({key: value})
    if not tuned:
        return plan
    pair = _held_out(base, progress)
    plan = replace(plan, pool=base.train.split, opened=_opened(base, [*splits, pair]))
    return replace(plan, tuning=tuple(_tuning(plan, pair)))


def _tuning(plan: SweepPlan, pair: tuple[str, str]) -> Iterator[Point]:
    for cell in plan.cells:
        for values in combinations(plan.tune):
            flags = {**cell.flags, **values, "seed": plan.seeds[0], "train_split": pair[0], "split": pair[1]}
            yield _point(plan, cell.label, {**cell.settings, **values}, flags, "tune")


def _point(plan: SweepPlan, label: str, settings: Mapping[str, Any], flags: Mapping[str, Any], stage: str) -> Point:
    opened = plan.opened if flags["data"] == str(plan.opened.path) else None
    run = make_plan(flags, SILENT, file=plan.file, recipe=plan.recipe, dataset=opened)
    identity = records.identity(run)
    identity["config"] = {key: value for key, value in identity["config"].items() if key not in records.FREE}
    return Point(name_of("-".join([label, *(["tune"] * (stage == "tune"))]), settings, identity), label, settings,
                 flags, stage)  # fmt: skip


def _distinct(cells: Sequence[Cell]) -> list[Cell]:
    """Cells without those that say the same as one before."""
    return list({repr(sorted(cell.flags.items())): cell for cell in reversed(cells)}.values())[::-1]


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
