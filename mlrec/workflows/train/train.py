"""`mlrec train`: train a model on a prepared dataset and write its run folder.

`TrainPlan` contains the config, dataset and splits of a run; missing values are replaced by defaults, which are
reported. `trainer.Trainer` runs the plan.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlrec.config import PATHS, Config
from mlrec.config_layers import BASE, Resolved, read_toml, recipe_chain, resolve
from mlrec.datasets.dataset import NOT_LEARNED, Dataset, label_gaps
from mlrec.datasets.manifest import POSITIVE, UNKNOWN, Manifest
from mlrec.run_folders import directory
from mlrec.run_folders.record import Run
from mlrec.utils import processes
from mlrec.utils.errors import ConfigError, DataError, ModelError, RunError, UsageError, counted
from mlrec.utils.files import check_name
from mlrec.utils.progress import NOTHING, SILENT, Progress, first_process_logs, logged_from
from mlrec.utils.texts import shared
from mlrec.utils.weight_packages import check_weights_name
from mlrec.workflows.train.run_record import Callbacks

if TYPE_CHECKING:
    from mlrec.training.features import FeatureCache

logger = logging.getLogger(__name__)

_REGISTERED = re.compile(r"^@register_model\s*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
PREFERRED = (("trainval", "test"), ("train", "val"), ("train", "test"))


@first_process_logs()
def train(
    flags: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    recipe: str | None = None,
    out: Path | str = "runs",
    name: str | None = None,
    data_root: Path | str = "data",
    command: Sequence[str] | None = None,
    features: FeatureCache | None = None,
    callbacks: Sequence[object] = (),
    progress: Progress = SILENT,
) -> Run:
    """Train and evaluate a model, and write all results to the run folder `out/name`.

    Args:
        flags: Keys of `Config`; flags override `file`, which overrides the recipe, which overrides the defaults.
        file: TOML file with keys of `Config`; the key `base` is the name of a recipe.
        recipe: Name of a recipe [default: `base` in the file, otherwise the recipe of the dataset].
        out: Folder of runs.
        name: Name of the run folder [default: dataset, backbone, head and a number].
        data_root: Folder of prepared datasets. The most recently prepared dataset is used if `data` is not set in the
            config.
        command: Command line to store in the record [default: the command line of this process].
        features: Cache of features from frozen backbones, shared with other runs.
        callbacks: Objects with any of the methods `on_step`, `on_epoch` and `on_end`, see `TrainEvent`.
        progress: Progress display.

    Returns:
        Finished run.

    Raises:
        ConfigError: A key or value in the config is invalid; nothing was written.
        UsageError: `name` is not a valid folder name.
        RunError: The folder `out/name` already exists and contains more than the first files of a killed run.
        MlrecError: The data, weights or machine cannot be used for the run, or the loss is NaN or infinite.
        Interrupted: SIGINT or SIGTERM was received; the run can be resumed.
        Exception: A callback raised this exception, which is passed on unchanged. The run can be resumed, except after
            `on_end`, which is called when the run is finished.
    """
    out = Path(out)
    if name is not None:
        check_name(name)
    if processes.rank() != 0:
        progress = SILENT
    called = Callbacks(callbacks)
    plan = resolve_plan(flags or {}, file=file, recipe=recipe, data_root=Path(data_root))
    if name is not None:
        directory.check_free(out / name)
    from mlrec.workflows.train.trainer import Trainer  # imports torch, which takes seconds

    command = list(sys.argv if command is None else command)
    trainer = Trainer(plan, progress, out=out, name=name, command=command, features=features, callbacks=called)
    return trainer.run()


@first_process_logs()
def resume(
    run: Path | str,
    flags: Mapping[str, Any] | None = None,
    *,
    features: FeatureCache | None = None,
    callbacks: Sequence[object] = (),
    progress: Progress = SILENT,
) -> Run:
    """Resume a run that was stopped or killed.

    On a CPU, and on CUDA with `deterministic`, the result is bit-identical to that of an uninterrupted run, if the
    torch version, device, precision and number of threads are the same.

    Args:
        run: Run folder.
        flags: Keys of `Config`. Only the keys in `run_record.FREE`, such as `workers`, may differ from those of the
            run.
        features: Cache of features from frozen backbones, shared with other runs.
        callbacks: See `train`.
        progress: Progress display.

    Returns:
        Finished run.

    Raises:
        RunError: The run is already finished, or has no checkpoint.
        UsageError: The config, the data or the number of processes differs from the original run. The message lists
            each difference.
        MlrecError: The data or the machine cannot be used for the run, or the loss is NaN or infinite.
        Interrupted: SIGINT or SIGTERM was received; the run can be resumed again.
        Exception: A callback raised this exception, see `train`.
    """
    folder = Path(run)
    if processes.rank() != 0:
        progress = SILENT
    called = Callbacks(callbacks)
    unfinished = Run.load(folder)
    if unfinished.record.status == "finished":
        raise RunError(f"{folder}: this run is finished and cannot be resumed; start a new run")
    plan = resolve_plan(
        dict(flags or {}),
        file=folder / directory.CONFIG,
        recipe=unfinished.record.recipe,
        resumed=True,
    )
    from mlrec.workflows.train.trainer import Trainer  # imports torch, which takes seconds

    return Trainer(plan, progress, resumed=unfinished, features=features, callbacks=called).run()


@dataclass(frozen=True)
class TrainPlan:
    """Complete plan of a training run: the config, dataset and splits.

    Attributes:
        resolved: Config with the source of each value; `data` and the splits are set.
        paper: Whether the recipe is based on the paper's recipe. If so, a backbone name without a tag selects the
            paper's weights.
        dataset: Prepared dataset.
        train: Training split.
        scored: Split for evaluation.
        select: Held-out split for selecting the best epoch; None if `select_split` is not set.
    """

    resolved: Resolved
    paper: bool
    dataset: Dataset
    train: Manifest
    scored: Manifest
    select: Manifest | None = None

    @property
    def config(self) -> Config:
        """Resolved config."""
        return self.resolved.config


def resolve_plan(
    flags: Mapping[str, Any],
    *,
    file: Path | None = None,
    recipe: str | None = None,
    data_root: Path = Path("data"),
    dataset: Dataset | None = None,
    resumed: bool = False,
) -> TrainPlan:
    """Resolve the config, dataset and splits of a run.

    The config is checked before any dataset is opened.

    Args:
        flags: Keys of `Config` from the command line.
        file: TOML file with additional keys; the key `base` is the name of a recipe.
        recipe: Name of a recipe [default: `base` in the file, otherwise the recipe of the dataset].
        data_root: Folder of prepared datasets. The most recently prepared dataset is used if `dataset` is None and the
            config does not contain `data`.
        dataset: Opened dataset; None to open the dataset in `data` or `data_root`.
        resumed: Whether an existing run is resumed. If so, the initial weights need not exist.

    Raises:
        ConfigError: A key or value is invalid.
        ModelError: The backbone is unknown, or the weights do not exist.
        UsageError: The package of a tracker is not installed, or the selection split is also used for training or
            evaluation.
        DataError: There is no dataset, or the dataset has no usable split for training or evaluation.
    """
    layers, recipe = _named_layers(flags, file, recipe)
    named = resolve(*layers, *_recipe_layers(recipe)).config
    data = named.data
    if not resumed:
        check_model_names(named)
    if named.trackers or named.tensorboard:
        from mlrec.training.trackers import check_trackers, tracker_names

        check_trackers(tracker_names(named))
    if dataset is None:
        dataset = Dataset.latest(data_root) if data is None else Dataset.load(data)
    if data is None:
        logger.info(f"data: {dataset.path} (most recently prepared; --data selects a different dataset)")
    if recipe is None:
        recipe = dataset.info.recipe
        logger.info(f"recipe: {recipe} (from the dataset; --recipe selects a different recipe)")
    kind = str(dataset.info.source.get("kind", ""))
    resolved = resolve(*layers, *_recipe_layers(recipe), source_kind=kind, recipe=recipe)
    for warning in () if resumed else resolved.warnings:
        logger.warning(warning)
    train, scored = _splits(dataset, resolved.config)
    select = None if resolved.config.select_split is None else dataset.manifest(resolved.config.select_split)
    held_out = [scored, *([select] if select else [])]
    _warn_of_gaps(train, held_out)
    _warn_of_shared_images(train, held_out)
    config = msgspec.structs.replace(
        resolved.config,
        data=str(dataset.path),
        train_split=train.split,
        split=scored.split,
        **_absolute_paths(resolved.config),
    )
    return TrainPlan(
        resolved=Resolved(config, resolved.sources, recipe),
        paper=any(name.startswith("paper") for name, _ in recipe_chain(recipe)),
        dataset=dataset,
        train=train,
        scored=scored,
        select=select,
    )


def _warn_of_gaps(train: Manifest, scored: Sequence[Manifest]) -> None:
    """Warn about labels that cannot be learned, and about labels without an AP."""
    lines = label_gaps(train).lines(NOT_LEARNED)
    for manifest in scored:
        lines += label_gaps(manifest).lines()
    for line in lines:
        logger.warning(line)


def _warn_of_shared_images(train: Manifest, held_out: Sequence[Manifest]) -> None:
    """Warn if the scored split or the selection split contains training images."""
    for manifest in held_out:
        both = shared(manifest.images, train.images)
        if both:
            count = counted(len(both), "image")
            logger.warning(
                f"split '{manifest.split}' shares {count} with the training split '{train.split}' (first: "
                f"'{min(both)}'), so the metrics are likely too high; remove the shared images from one split"
            )


def named_config(flags: Mapping[str, Any], file: Path | None = None, recipe: str | None = None) -> Config:
    """Return the config from the flags, the file and the recipe; the recipe of the dataset is not yet included.

    Raises:
        ConfigError: A key or value is invalid.
    """
    layers, recipe = _named_layers(flags, file, recipe)
    return resolve(*layers, *_recipe_layers(recipe)).config


def _named_layers(
    flags: Mapping[str, Any], file: Path | None, recipe: str | None
) -> tuple[list[tuple[str, Mapping[str, Any]]], str | None]:
    """Return the config layers from the flags and the file, and the recipe that they name."""
    layers: list[tuple[str, Mapping[str, Any]]] = [("flag", flags)]
    if file is None:
        return layers, recipe
    tables = read_toml(file)
    base = tables.pop(BASE, None)
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"{file}: {BASE} = {base} is not a name; set {BASE} to the name of a recipe")
    return [*layers, (str(file), tables)], recipe or base


def _absolute_paths(config: Config) -> dict[str, str]:
    """Return the keys that refer to files as absolute paths, so that `config.toml` is valid in any folder."""
    named = {key: getattr(config, key) for key in PATHS}
    return {
        key: str(Path(value).absolute())
        for key, value in named.items()
        if value is not None and value not in PATHS[key]
    }


def _recipe_layers(name: str | None) -> list[tuple[str, Mapping[str, Any]]]:
    if name is None:
        return []
    return [(f"recipe {part}", tables) for part, tables in recipe_chain(name)]


def _splits(dataset: Dataset, config: Config) -> tuple[Manifest, Manifest]:
    """Return the splits for training and evaluation; splits chosen by default are reported."""
    if config.select_split is not None and config.select_split in (config.train_split, config.split):
        raise UsageError(
            f"--select-split {config.select_split} is also used for training or scoring; hold out a different split"
        )
    there = [name for name in dataset.info.splits if name != config.select_split]
    pairs = [(config.train_split or first, config.split or second) for first, second in PREFERRED]
    if config.train_split or config.split:
        pairs += [(config.train_split or name, config.split or name) for name in there]
    if config.train_split and config.split:
        return _trained_on(dataset, config.train_split), dataset.manifest(config.split)
    for train, scored in pairs:
        if train != scored and train in there and scored in there and has_labels(dataset.manifest(scored)):
            logger.info(f"splits: train on {train}, score {scored} (--train-split and --split select different splits)")
            return _trained_on(dataset, train), dataset.manifest(scored)
    for name in (config.train_split, config.split):
        if name is not None:
            dataset.manifest(name)  # raises for an unknown name, with the names that exist
    raise DataError(_why_no_splits(dataset, [name for pair in pairs for name in pair if name in there]))


def _why_no_splits(dataset: Dataset, candidates: Sequence[str]) -> str:
    """Explain why default splits cannot be chosen: one split, unusual names, or no positives to evaluate."""
    shown, names = dataset.path, dataset.info.splits
    empty = [name for name in dict.fromkeys(candidates) if not has_labels(dataset.manifest(name))]
    if len(names) == 1:
        return f"{shown}: no split to evaluate; the only split is {next(iter(names))}; divide it with mlrec split"
    if empty:
        why = "; ".join(f"{name} {_unlabelled(dataset.manifest(name))}" for name in empty)
        return (
            f"{shown}: no labeled split to score ({why}); check the annotations, or create a new split with mlrec split"
        )
    return (
        f"{shown}: cannot choose the training and evaluation splits from {', '.join(names)}; set both with "
        "--train-split and --split, or divide one of them with mlrec split"
    )


def _unlabelled(manifest: Manifest) -> str:
    if not len(manifest):
        return "has no samples"
    unknown = bool((manifest.sparse_targets.counts(UNKNOWN) == len(manifest)).all())
    samples = counted(len(manifest), "sample")
    if unknown:
        return f"has {samples}, all labels unknown"
    return f"has {samples} and no positive label"


def default_splits(dataset: Dataset) -> tuple[str, str]:
    """Return the default training and evaluation splits.

    Raises:
        DataError: The dataset has no split for training or evaluation.
    """
    with logged_from(NOTHING):
        train, scored = _splits(dataset, Config())
    return train.split, scored.split


def _trained_on(dataset: Dataset, split: str) -> Manifest:
    manifest = dataset.manifest(split)
    if not len(manifest):
        raise DataError(f"{dataset.path}: split '{split}' has no samples to train on; choose a different --train-split")
    return manifest


def has_labels(manifest: Manifest) -> bool:
    """Return whether any sample has a positive label."""
    return bool(manifest.sparse_targets.counts(POSITIVE).any())


def check_model_names(config: Config) -> None:
    """Check that the backbone, the weights and the starting model exist.

    Raises:
        ModelError: The backbone, weights package or file is unknown.
    """
    check_backbone_name(config.backbone)
    if config.weights is not None:
        check_weights_name(config.weights)
    if config.init_from is not None and not Path(config.init_from).exists():
        raise ModelError(f"--init-from {config.init_from}: no such run or file; check the path")


def check_backbone_name(name: str) -> None:
    """Check that timm has a model with this name; the tag is not checked.

    Raises:
        ModelError: timm has no model with this name.
    """
    if name.partition(".")[0] in _names_in_source():
        return
    # timm itself takes seconds to import, but knows the models of other packages, too.
    from mlrec.models.backbones import pretrained_settings

    pretrained_settings(name)


@cache
def _names_in_source() -> frozenset[str]:
    """Return the model names registered in timm's source, without models from other packages.

    The source is read as text.
    """
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    files = (Path(spec.origin).parent / "models").rglob("*.py")
    return frozenset(name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8")))
