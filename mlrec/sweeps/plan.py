"""Planning of a sweep: all trials are created from the user's flags and checked before training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from mlrec.config import first_keys
from mlrec.datasets.dataset import Dataset
from mlrec.sweeps import studies
from mlrec.sweeps.grid import Setting, Trial, combinations, run_name, split_axes
from mlrec.utils.errors import UsageError
from mlrec.utils.files import check_name
from mlrec.utils.progress import NOTHING, SILENT, Progress, logged_from
from mlrec.workflows.data.split import split
from mlrec.workflows.train import run_record
from mlrec.workflows.train.train import TrainPlan, resolve_plan

logger = logging.getLogger(__name__)
HELD_OUT = 0.25  # share of the training split on which tuned values are chosen


@dataclass(frozen=True)
class SweepPlan:
    """Complete plan of a sweep: settings, axes, seeds, splits and trials.

    Attributes:
        title: Title of the table.
        notes: Footnotes of the table.
        folder: Folder of the sweep, which contains the run folders.
        base: Training plan with the keys that all runs share.
        file: Configuration file of all runs, or None.
        recipe: Name of the recipe of all runs; None for the default recipe, see `train`.
        settings: Settings of the sweep. In a grid, each setting is trained once for every combination of a pair in
            `splits` and a seed. A search has one setting, to which the searched values are added.
        axes: Axes of the grid, or ranges of the search.
        tune: Keys with the values to try; the best combination is chosen separately for each setting.
        seeds: Seeds for each setting.
        splits: Pairs of a training split and a scored split; one pair per fold if folds are used.
        pool: Training split, from which folds or held-out data are taken; None without folds and tuning.
        dataset: Dataset that keeps the manifests of all splits in the sweep in memory, so that each manifest is read
            only once.
        tuning: Trials that choose the tuned values; they run before all other trials.
        max_trials: Maximum number of search trials; None for a grid.
    """

    title: str
    notes: Sequence[str]
    folder: Path
    base: TrainPlan
    file: Path | None
    recipe: str | None
    settings: Sequence[Setting]
    axes: Mapping[str, Sequence[Any]]
    tune: Mapping[str, Sequence[Any]]
    seeds: Sequence[int]
    splits: Sequence[tuple[str, str]]
    pool: str | None
    dataset: Dataset = field(repr=False)
    tuning: Sequence[Trial] = ()
    max_trials: int | None = None

    def trials(self, choices: Mapping[str, Mapping[str, Any]]) -> list[Trial]:
        """Return the trials of the grid in the order of setting, fold and seed, without tuning trials.

        Args:
            choices: Dict from the description of a setting to the values chosen for this setting; empty without tuning.
        """
        trials = []
        for setting in self.settings:
            chosen = choices.get(setting.words, {})
            for fold, (train_split, scored_split) in enumerate(self.splits):
                for seed in self.seeds:
                    values = {**setting.values, **chosen}
                    if len(self.splits) > 1:
                        values["fold"] = fold
                    if len(self.seeds) > 1:
                        values["seed"] = seed
                    flags = {**setting.flags, **chosen, "seed": seed, "train_split": train_split, "split": scored_split}
                    trials.append(self._trial(setting.label, values, flags))
        return trials

    def search_trial(self, values: Mapping[str, Any]) -> Trial:
        """Return the search trial with these values."""
        train_split, scored_split = self.splits[0]
        flags = {**self.settings[0].flags, **values, "seed": self.seeds[0]}
        return self._trial("", values, {**flags, "train_split": train_split, "split": scored_split})

    def tuning_trials(self, splits: tuple[str, str]) -> list[Trial]:
        """Return one tuning trial per setting and combination of tuned values, with the first seed.

        Args:
            splits: Training split and scored split of the tuning trials.
        """
        trials = []
        for setting in self.settings:
            for chosen in combinations(self.tune):
                flags = {**setting.flags, **chosen, "seed": self.seeds[0], "train_split": splits[0], "split": splits[1]}
                trials.append(self._trial(setting.label, {**setting.values, **chosen}, flags, "tune"))
        return trials

    def _trial(self, label: str, values: Mapping[str, Any], flags: Mapping[str, Any], stage: str = "run") -> Trial:
        """Check a configuration, and return a trial whose name depends on all values that affect the result."""
        dataset = self.dataset if flags["data"] == str(self.dataset.path) else None
        with logged_from(NOTHING):  # the same notes for each trial
            run = resolve_plan(flags, file=self.file, recipe=self.recipe, dataset=dataset)
        identity = msgspec.to_builtins(run_record.identity(run))
        config = {key: value for key, value in identity["config"].items() if key not in run_record.FREE}
        identity["config"] = first_keys(config)  # a sweep that an earlier version began keeps its names
        name = run_name(label, values, identity)
        if stage == "tune":
            name = run_name(f"{label}-tune", values, identity)
        return Trial(name, label, values, flags, stage)


def plan_sweep(
    flags: Mapping[str, Any],
    *,
    study: str | None = None,
    paper_only: bool = False,
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
    """Plan a sweep and check the configuration of every trial.

    If folds or tuning require splits that do not exist, these splits are added to the dataset.

    Args:
        flags: Values of `Config` keys. A string with multiple values, `a,b,c` or `start:stop:step`, defines an axis.
        study: Name of a study in `sweeps.studies`; the study variants are combined with the axes.
        paper_only: Whether to train only the runs in the paper's table or figure. If set, the default number of seeds
            is one.
        tune: Dict from key to values, as in `flags`. The best combination of values is chosen for each setting on data
            held out from the training split. By default, the values that the study tunes.
        seeds: Seeds for each setting. By default, the values of `seed` in `flags`; otherwise 0, 1 and 2 for a study
            without `paper_only`, or 0.
        folds: Number of folds for cross-validation on the training split; None to use the training and scored splits.
        trials: Maximum number of trials of a hyperparameter search; None trains all combinations of the values.
        file: Configuration file; see `train`.
        recipe: Name of a recipe; see `train`.
        out: Folder in which the sweep folder is created.
        name: Name of the sweep folder. By default, the name of the study (followed by "-paper" with `paper_only`), or
            "sweep" followed by the names of the axes and tuned keys.
        data_root: Folder of datasets; see `train`.
        progress: Progress display.

    Raises:
        ConfigError: A key or value of any trial is invalid.
        UsageError: There is nothing to sweep over, a key or study is unknown, or options cannot be used together.
        MlrecError: The data cannot be used.
    """
    if name is not None:
        check_name(name)
    layers: dict[str, Any] = {"file": file, "recipe": recipe, "data_root": Path(data_root)}
    fixed, axes = split_axes(flags)
    definition = studies.Study("")
    studies.check(study, paper_only=paper_only)
    if study is not None:
        definition = _study(study, fixed, layers, paper_only)
    repeated = study is not None and not paper_only
    seeds = seeds or axes.pop("seed", None) or _default_seeds(repeated, fixed)
    axes = _lists({**definition.axes, **axes})
    tune_axes = _tune_axes(tune or {}) or _lists(definition.tune)
    _check_axes(axes, tune_axes, seeds, study, folds)
    if trials is not None:
        _check_search(trials, axes, study, bool(tune_axes or folds or len(seeds) > 1))
    base = resolve_plan({**definition.defaults, **fixed}, **layers)
    splits, pool = _splits(base, folds, progress)
    swept = [*axes, *tune_axes]
    crossed = axes
    if trials is not None:  # a search chooses the values itself
        crossed = {}
    plan = SweepPlan(
        title=definition.title or f"Sweep over {', '.join(swept) or 'seeds'}",
        notes=tuple(definition.notes),
        folder=Path(out) / (name or _default_name(study, paper_only, swept)),
        base=base,
        file=file,
        recipe=recipe,
        settings=_settings(definition, fixed, crossed, base),
        axes=axes,
        tune=tune_axes,
        seeds=tuple(seeds),
        splits=splits,
        pool=pool,
        dataset=_with_manifests(base, splits),
        max_trials=trials,
    )
    _check_trials(plan)
    if not tune_axes:
        return plan
    held_out = _held_out(base, progress)
    plan = replace(plan, pool=base.train.split, dataset=_with_manifests(base, [*splits, held_out]))
    return replace(plan, tuning=tuple(plan.tuning_trials(held_out)))


def _default_name(study: str | None, paper_only: bool, swept: Sequence[str]) -> str:
    """Return the default name of the sweep folder, which consists of the study name or the axis names."""
    if study is None:
        return "-".join(["sweep", *swept])
    if paper_only:
        return f"{study}-paper"
    return study


def _study(name: str, fixed: Mapping[str, Any], layers: Mapping[str, Any], paper_only: bool) -> studies.Study:
    """Return the study `name`, adapted to the user's flags."""
    csra = {**studies.DEFAULTS[name], **fixed, "head": "csra"}
    with logged_from(NOTHING):
        config = resolve_plan(csra, **layers).config
    return studies.study(name, config, paper_only=paper_only)


def _default_seeds(repeated: bool, fixed: Mapping[str, Any]) -> Sequence[int]:
    if repeated:
        return studies.SEEDS
    return [fixed.get("seed", 0)]


def _lists(axes: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    return {key: list(values) for key, values in axes.items()}


def _tune_axes(texts: Mapping[str, Any]) -> dict[str, list[Any]]:
    fixed, axes = split_axes(texts)
    for key, value in fixed.items():
        raise UsageError(f"--tune {key}={value}: tuning requires at least two values; pass a comma-separated list")
    return axes


def _check_axes(
    axes: Mapping[str, Any], tune_axes: Mapping[str, Any], seeds: Sequence[int], study: str | None, folds: int | None
) -> None:
    """Raise UsageError if no key has multiple values, or if tuning is combined with folds."""
    if not (axes or study or tune_axes or folds) and len(seeds) < 2:
        raise UsageError("nothing to sweep over; pass multiple values for a key, for example --lam 0,0.1,0.2")
    if tune_axes and folds is not None:
        raise UsageError(
            "--tune cannot be used with --folds, because --tune already holds out part of the training split; use "
            "--seeds instead of --folds"
        )


def _check_search(trials: int, axes: Mapping[str, Sequence[Any]], study: str | None, repeated: bool) -> None:
    """Raise UsageError if the number of trials is below 1, or an option is not supported by a search."""
    if trials < 1 or study or repeated or not axes:
        raise UsageError(
            "--trials N requires N >= 1 and multiple values for a key (for example --lr 0.0001,0.1), and cannot be "
            "used with --study, --tune, --folds or --seeds"
        )
    for key, values in axes.items():
        if any(isinstance(value, list | tuple) for value in values):
            raise UsageError(
                f"--trials cannot search over {key}, because its values are lists; omit --trials to train a grid"
            )


def _settings(
    study: studies.Study, fixed: Mapping[str, Any], axes: Mapping[str, Sequence[Any]], base: TrainPlan
) -> list[Setting]:
    """Return all combinations of study variants and axis values, without duplicates.

    Raises:
        UsageError: No variant of the study has the head set by `--head`.
    """
    common = {**study.defaults, **fixed, "data": base.config.data}
    heads = axes.get("head", [fixed["head"]] if "head" in fixed else None)
    settings: dict[str, Setting] = {}
    for label, variant in study.variants.items():
        if heads is not None and variant.get("head", heads[0]) not in heads:
            continue  # --head chooses rows of the study
        own = {key: values for key, values in axes.items() if key not in variant}
        for values in combinations(own):
            flags = {**common, **values, **variant}
            settings.setdefault(repr(sorted(flags.items())), Setting(label, values, flags))
    if not settings:
        raise UsageError(
            f"--head {','.join(map(str, heads or ()))}: the study has no matching row; omit --head, or choose a "
            "different study"
        )
    return list(settings.values())


def _check_trials(plan: SweepPlan) -> None:
    """Resolve the configuration of every trial, so that an invalid value raises an error before training."""
    if plan.max_trials is None:
        plan.trials({})
        return
    for key, values in plan.axes.items():
        for value in values:
            plan.search_trial({key: value})


def _splits(base: TrainPlan, folds: int | None, progress: Progress) -> tuple[list[tuple[str, str]], str | None]:
    """Return the pairs of a training split and a scored split, and the split that is divided into folds."""
    if folds is None:
        return [(base.train.split, base.scored.split)], None
    prefix, pool = f"cv{folds}-", base.train.split
    pairs = [(f"{prefix}fold{k}-train", f"{prefix}fold{k}-val") for k in range(max(folds, 0))]
    if not pairs or not {name for pair in pairs for name in pair} <= set(base.dataset.info.splits):
        parts = split(base.dataset.path, folds=folds, pool=pool, prefix=prefix, progress=progress)
        logger.info(f"folds: {', '.join(parts.sizes)} added to {base.dataset.path}")
    return pairs, pool


def _with_manifests(base: TrainPlan, pairs: Sequence[tuple[str, str]]) -> Dataset:
    """Reload the dataset, which may have new splits, and read the manifests of the splits in `pairs`."""
    dataset = Dataset.load(base.dataset.path)
    return replace(dataset, loaded={name: dataset.manifest(name) for pair in pairs for name in pair})


def _held_out(base: TrainPlan, progress: Progress) -> tuple[str, str]:
    """Return the splits for tuning: the splits `train` and `val`, or two parts of the training split."""
    available, pool = base.dataset.info.splits, base.train.split
    if pool == "trainval" and {"train", "val"} <= set(available) and base.scored.split not in ("train", "val"):
        logger.info("tuning: training on split 'train', selecting on split 'val'")
        return "train", "val"
    if "tune-val" not in available:
        parts = split(base.dataset.path, val=HELD_OUT, pool=pool, prefix="tune-", progress=progress)
        logger.info(f"tuning: {', '.join(parts.sizes)} added to {base.dataset.path}")
    return "tune-train", "tune-val"
