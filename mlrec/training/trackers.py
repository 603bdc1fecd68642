"""Trackers that log the numbers and images of a run, for example to TensorBoard.

There are trackers for TensorBoard, Weights & Biases, MLflow and trackio. `log.jsonl` is always written and is
authoritative; trackers receive the same numbers. A new tracker requires a class, one line in `TRACKERS` and its name in
`mlrec.config.TRACKERS`; another package can add a tracker with an entry point in the group `mlrec.trackers`.
"""

from __future__ import annotations

import importlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from mlrec.config import Config
from mlrec.run_folders import directory
from mlrec.run_folders.record import Status
from mlrec.utils.errors import RunError, UsageError, printable
from mlrec.utils.files import read_own_json, write_json
from mlrec.utils.plugins import find_part

PROJECT = "mlrec"  # W&B and trackio project, and MLflow experiment, unless set in environment variables
MLFLOW_SECONDS, MLFLOW_METRICS = 5.0, 500  # numbers are sent after this time, or when this many are collected
MLFLOW_LONGEST = 500  # characters; longest parameter value that all MLflow versions support


@dataclass(frozen=True)
class TrackedRun:
    """Information about a run that is passed to trackers.

    Attributes:
        folder: Run folder, whose name is the name of the run.
        config: Values of all keys in `Config`.
        step: Number of optimizer steps so far; greater than 0 if the run is resumed.
        id: Id that the `start` method of this tracker returned when the run was first started; None for a new run.
    """

    folder: Path
    config: Mapping[str, Any]
    step: int = 0
    id: str | None = None

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.folder.name


class Tracker(Protocol):
    """Interface of trackers, which receive the numbers and images of a run.

    Trackers are used only in the first process of a run. If any method raises an exception, a warning is printed, and
    the run continues without the tracker.
    """

    def start(self, run: TrackedRun) -> str | None:
        """Start a run, or continue the run with the id `run.id`; return an id for continuing the run."""

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log numbers by name, such as "steps/loss" or "val/mAP"; after resuming, steps may be logged again."""

    def log_picture(self, step: int, name: str, file: Path) -> None:
        """Log a PNG file."""

    def finish(self, status: Status) -> None:
        """End the run with a status: "finished", "interrupted" or "failed"; a finished run cannot be resumed."""


class TensorBoardTracker:
    """Tracker that writes event files to the folder `tensorboard` in the run folder."""

    def start(self, run: TrackedRun) -> None:
        """Open the writer; values that were logged after the current step are discarded."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.step + 1)

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write numbers to the event file."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def log_picture(self, step: int, name: str, file: Path) -> None:
        """Write an image to the event file."""
        import numpy as np
        from PIL import Image

        with Image.open(file) as image:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def finish(self, status: Status) -> None:
        """Close the event file."""
        self._writer.close()


class WandbTracker:
    """Tracker for Weights & Biases.

    Environment variables such as WANDB_PROJECT and WANDB_MODE=offline are supported.
    """

    def start(self, run: TrackedRun) -> str | None:
        """Start or resume a run; local files are written to the folder `wandb` in the run folder."""
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=run.id,
            resume="allow",
            config=dict(run.config),
            dir=str(run.folder),
            reinit="create_new",  # does not affect a run that is already open in the user's program
        )
        return str(self._run.id)

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log numbers; W&B ignores steps that have already been logged."""
        self._run.log(dict(scalars), step=step)

    def log_picture(self, step: int, name: str, file: Path) -> None:
        """Log an image."""
        self._run.log({name: self._wandb.Image(str(file))}, step=step)

    def finish(self, status: Status) -> None:
        """End the run; interrupted and failed runs are marked as such."""
        self._run.finish(exit_code=int(status != "finished"))


class MlflowTracker:
    """Tracker for MLflow.

    Environment variables such as MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are supported.
    """

    def start(self, run: TrackedRun) -> str:
        """Create or continue a run; the default experiment is "mlrec". The user's active run is not changed."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        self._metrics: list[Any] = []
        self._sent = time.monotonic()
        if run.id is not None:
            self._id = run.id
            self._client.update_run(run.id, status="RUNNING")
            return run.id
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        if known is None:
            experiment = self._client.create_experiment(name)
        else:
            experiment = known.experiment_id
        self._id = str(self._client.create_run(experiment, run_name=run.name).info.run_id)
        values = [Param(key, str(value)[:MLFLOW_LONGEST]) for key, value in run.config.items() if value is not None]
        self._client.log_batch(self._id, params=values)
        return self._id

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Collect values and send them in batches, because one request per step would be slow."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._metrics += [Metric(name, value, now, step) for name, value in scalars.items()]
        if len(self._metrics) >= MLFLOW_METRICS or time.monotonic() - self._sent >= MLFLOW_SECONDS:
            self._send()

    def log_picture(self, step: int, name: str, file: Path) -> None:
        """Log an image as an artifact."""
        self._client.log_artifact(self._id, str(file), artifact_path=name)

    def finish(self, status: Status) -> None:
        """End the run."""
        self._send()
        ends = {"finished": "FINISHED", "interrupted": "KILLED"}
        self._client.set_terminated(self._id, ends.get(status, "FAILED"))

    def _send(self) -> None:
        self._client.log_batch(self._id, metrics=self._metrics)
        self._metrics, self._sent = [], time.monotonic()


class TrackioTracker:
    """Tracker for trackio; supports environment variables such as TRACKIO_DIR."""

    def start(self, run: TrackedRun) -> str:
        """Start or continue a run under a unique name.

        The name is made unique because runs in different folders may have the same name.
        """
        import trackio

        self._trackio = trackio
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=run.id or f"{run.name}-{secrets.token_hex(2)}",
            config=dict(run.config),
            resume="never" if run.id is None else "must",
            embed=False,
        )
        return str(self._run.name)

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log numbers."""
        self._run.log(dict(scalars), step=step)

    def log_picture(self, step: int, name: str, file: Path) -> None:
        """Log an image."""
        self._run.log({name: self._trackio.Image(str(file))}, step=step)

    def finish(self, status: Status) -> None:
        """End the run."""
        self._trackio.finish()


# Module and class for each name in `mlrec.config.TRACKERS`, which is also the name of the required package.
TRACKERS = {
    "tensorboard": "mlrec.training.trackers:TensorBoardTracker",
    "wandb": "mlrec.training.trackers:WandbTracker",
    "mlflow": "mlrec.training.trackers:MlflowTracker",
    "trackio": "mlrec.training.trackers:TrackioTracker",
}


def tracker_names(config: Config) -> list[str]:
    """Return the distinct tracker names for a run; `tensorboard = true` adds the tracker "tensorboard"."""
    names = list(config.trackers or ())
    if config.tensorboard:
        names.append("tensorboard")
    return list(dict.fromkeys(names))


def check_trackers(names: Sequence[str]) -> None:
    """Check that the packages required by trackers are installed, before a run starts.

    Raises:
        UsageError: A tracker is unknown, or its package is missing or cannot be imported. For a missing package, the
            message contains the command that installs it.
    """
    for name in names:
        find_part("tracker", name, TRACKERS, UsageError)
        if name not in TRACKERS:
            continue
        try:
            package = importlib.import_module(name)
        except ImportError as error:
            raise UsageError(
                f"--trackers {name} requires a package that cannot be imported ({error}); run pip install "
                f"'mlrec[{name}]'"
            ) from error
        if package.__file__ is None:  # a folder with this name in the working directory, such as W&B's local files
            raise UsageError(
                f"--trackers {name} requires a package that is not installed; run pip install 'mlrec[{name}]'"
            )


class TrackerGroup:
    """Trackers of a run; if a tracker fails, a warning is printed and the tracker is no longer used.

    Args:
        names: Tracker names.
        run: Information about the run. The ids that the trackers return are stored in the run folder.
        warn: Function that prints a warning.

    Raises:
        RunError: The file with the stored ids is damaged.
    """

    def __init__(self, names: Sequence[str], run: TrackedRun, warn: Callable[[str], None]) -> None:
        self._warn, self._active = warn, dict[str, Tracker]()
        file = run.folder / directory.TRACKERS
        ids = (
            read_own_json(file, dict[str, str], RunError, "delete the file; the trackers then start new runs")
            if file.is_file()
            else {}
        )
        for name in names:
            started = self._try(name, partial(self._start, name, replace(run, id=ids.get(name))))
            if started is not None:
                self._active[name], new_id = started
                if new_id is not None:
                    ids[name] = new_id
        if ids:
            write_json(file, ids)

    def log(self, event: str, *, step: int, **values: object) -> None:
        """Log the floats in a line of `log.jsonl` under names such as "steps/loss", "epoch/loss" or "val/mAP"."""
        group = values.get("split", event)
        scalars = {f"{group}/{name}": value for name, value in values.items() if isinstance(value, float)}
        self._each(lambda tracker: tracker.log_scalars(step, scalars))

    def picture(self, step: int, name: str, file: Path) -> None:
        """Log a PNG file."""
        self._each(lambda tracker: tracker.log_picture(step, name, file))

    def finish(self, status: Status) -> None:
        """End the run in all trackers."""
        self._each(lambda tracker: tracker.finish(status))
        self._active.clear()

    def _start(self, name: str, run: TrackedRun) -> tuple[Tracker, str | None]:
        tracker: Tracker = find_part("tracker", name, TRACKERS)()
        return tracker, tracker.start(run)

    def _each(self, action: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._active.items()):
            self._try(name, partial(action, tracker))

    def _try(self, name: str, action: Callable[[], Any]) -> Any:
        """Return the result of an action; after an error of the service, print a warning and return None."""
        try:
            with redirect_stdout(sys.stderr):  # stdout is reserved for results
                return action()
        except Exception as error:  # noqa: BLE001
            self._active.pop(name, None)
            reason = printable(f"{type(error).__name__}: {error}")
            self._warn(
                f"tracker {name} failed; the run continues without the tracker, and {directory.LOG} is "
                f"complete ({reason})"
            )
            return None
