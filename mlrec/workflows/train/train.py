"""`mlrec train`: train a model on a prepared dataset and write its run folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlrec.run_folders import directory
from mlrec.run_folders.record import Run
from mlrec.utils import processes
from mlrec.utils.errors import RunError
from mlrec.utils.files import check_name
from mlrec.utils.progress import SILENT, Progress, first_process_logs
from mlrec.workflows.train.callbacks import Callbacks
from mlrec.workflows.train.plan import resolve_plan

if TYPE_CHECKING:
    from mlrec.training.features import FeatureCache


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
        file: TOML file with keys of `Config`; the key `base` names a recipe.
        recipe: Name of a recipe [default: `base` in the file, otherwise the recipe of the dataset].
        out: Folder of runs.
        name: Name of the run folder [default: dataset, backbone and head with a number].
        data_root: Folder in which to look up the most recently prepared dataset if `flags` do not name one.
        command: Command line, stored in the record [default: that of this process].
        features: Cache of features from frozen backbones, shared with other runs.
        callbacks: Objects with any of the methods `on_step`, `on_epoch` and `on_end`, see `callbacks.TrainEvent`.
        progress: Progress display.

    Returns:
        Finished run.

    Raises:
        ConfigError: A key or value in the config is invalid; nothing was written.
        UsageError: `name` is not a valid folder name.
        MlrecError: The data, the weights or the machine do not support the run, or the loss is NaN or infinite.
        Interrupted: SIGINT or SIGTERM was received; the run can be resumed.
        Exception: A callback raised this exception, which is passed on unchanged; the run can be resumed.
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

    The result is bit-identical to that of an uninterrupted run.

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
        UsageError: Config, data or number of processes differ from those of the run; the message lists each difference.
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
