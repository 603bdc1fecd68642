"""Worker process of a sweep, which trains one trial after another and reuses cached features."""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlrec.run_folders import directory
from mlrec.run_folders.record import Run, RunRecord
from mlrec.sweeps.grid import Trial
from mlrec.sweeps.plan import SweepPlan
from mlrec.sweeps.trial_queue import TrialFailed, TrialQueue, claimed
from mlrec.utils import processes
from mlrec.utils.errors import LONGEST_LINE, MlrecError, RunError, printable
from mlrec.utils.progress import logged_to
from mlrec.utils.signals import Interrupted

if TYPE_CHECKING:
    from mlrec.training.features import FeatureCache

# Trials that agree in these keys share the features of their frozen backbone; the store compares the other keys.
_INPUT = ("data", "img_size", "normalization", "image_backend")
BACKBONE = ("backbone", "weights", "init_from", "pretrained", "precision", *_INPUT)


@dataclass(frozen=True)
class WorkerTask:
    """Input of a worker process: the plan of the sweep and the trials to train.

    Attributes:
        trials: Dict from name to trial for this stage; a search adds more trials.
        jobs: Number of workers on this machine.
        gpus: Number of GPUs that the workers share; 0 to train on the device that is set in the flags.
        command: Command line, stored in the run records.
    """

    plan: SweepPlan
    trials: Mapping[str, Trial]
    storage: str
    jobs: int
    gpus: int
    command: tuple[str, ...]


def run_worker(task: WorkerTask, slot: int) -> None:
    """Train trials until no trial is waiting, then exit the process.

    The process also exits after a signal, and after an exception that is not an `MlrecError`.

    Args:
        task: Task for the worker.
        slot: Index of this worker on this machine.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if task.gpus:
        # the only visible GPU is device 0, also for libraries that do not ask which device to use
        os.environ["CUDA_VISIBLE_DEVICES"] = visible_gpus(task.gpus)[slot % task.gpus]
    worker = Worker(task)
    while worker.exit_code is None and worker.queue.train_next(worker.train):
        pass
    sys.exit(worker.exit_code)


def visible_gpus(count: int) -> list[str]:
    """Return the names of `count` GPUs for the variable CUDA_VISIBLE_DEVICES of a child process."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if len(named) < count:
        return [str(index) for index in range(count)]
    return named[:count]


class Worker:
    """Worker that trains the trials of a task in this process.

    Attributes:
        queue: Queue of the trials.
        exit_code: Exit code of the process; None while the process can train more trials.
    """

    def __init__(self, task: WorkerTask) -> None:
        self.queue = TrialQueue(task.storage, task.plan.folder)
        self.exit_code: int | None = None
        self._task = task
        self._backbone = ""
        self._features: FeatureCache | None = None

    def train(self, name: str) -> float | None:
        """Train or resume a trial, and return the mAP; a finished trial is not trained again.

        The result is None if training was interrupted, another worker has claimed the trial, the trial does not belong
        to this sweep, or the mAP is undefined.

        Raises:
            TrialFailed: Training failed; the complete error is in the log of the trial.
        """
        folder = self._task.plan.folder
        trial = self._trial(name)
        if trial is None:
            return None
        with claimed(folder, name) as free, output_to(log_of(folder, name)), logged_to(TrialLog()):
            if not free:
                return None
            try:
                return self._train(trial).metrics().mAP
            except Interrupted as stopped:
                self.exit_code = stopped.exit_code
                return None
            except MlrecError as error:
                sys.stderr.write(f"error: {error}\n")
                raise TrialFailed(str(error).splitlines()[0]) from error
            except Exception as error:
                traceback.print_exc()
                self.exit_code = 0  # the state of this process is unknown after such an error: another one continues
                raise TrialFailed(printable(f"{type(error).__name__}: {error}")) from error

    def _trial(self, name: str) -> Trial | None:
        """Return the trial with this name, or None if it does not belong to this plan."""
        plan = self._task.plan
        if plan.max_trials is None or name in self._task.trials:
            return self._task.trials.get(name)
        values = self.queue.values(name, plan.axes)
        if values.keys() != plan.axes.keys():
            return None
        trial = plan.search_trial(values)
        if trial.name != name:
            return None
        return trial

    def _train(self, trial: Trial) -> Run:
        from mlrec.workflows.train.train import resume, train

        plan, run = self._task.plan, self._task.plan.folder / trial.name
        record = record_of(run)
        if record is not None and record.status == "finished":
            return Run(run, record)
        features = self._features_for(trial)
        saved = (directory.RESUME, directory.RESUME_PREVIOUS)
        resumable = record is not None and any((run / file).is_file() for file in saved)
        begun = "resumed" if resumable else "started"
        sys.stderr.write(f"{begun} by pid {os.getpid()} on {socket.gethostname()}\n")
        machine = self._core_flags(trial)
        if resumable:
            # the run may have been started elsewhere, on another device
            machine |= {"data": trial.flags["data"], "device": trial.flags.get("device", plan.base.config.device)}
            return resume(run, machine, features=features)
        shutil.rmtree(run, ignore_errors=True)  # killed before there was anything to resume
        return train(
            {**trial.flags, **machine},
            file=plan.file,
            recipe=plan.recipe,
            out=plan.folder,
            name=trial.name,
            command=self._task.command,
            features=features,
        )

    def _core_flags(self, trial: Trial) -> dict[str, Any]:
        """Return the flags that limit the number of CPU cores of this worker.

        By default, all workers get the same number of cores. Numbers that the user set are not changed.
        """
        task, config = self._task, self._task.plan.base.config
        share = max(1, processes.cores() // task.jobs)
        threads = trial.flags.get("threads", config.threads)
        workers = trial.flags.get("workers", config.workers)
        if threads is None and task.jobs > 1:
            threads = share
        if workers is None and task.jobs > 1 and task.gpus:
            workers = share
        return {key: number for key, number in (("threads", threads), ("workers", workers)) if number is not None}

    def _features_for(self, trial: Trial) -> FeatureCache:
        """Return the feature cache of the previous trial, or a new cache if the backbone is different."""
        from mlrec.datasets.dataset import Dataset
        from mlrec.training.features import FeatureCache

        backbone = repr([trial.flags.get(key) for key in BACKBONE])
        if self._features is None or backbone != self._backbone:
            pool = self._task.plan.pool
            whole = Dataset.load(trial.flags["data"]).manifest(pool) if pool else None
            self._backbone, self._features = backbone, FeatureCache(whole)
        return self._features


class TrialLog(logging.Handler):
    """Logging handler that writes notes and warnings to stderr, which is redirected to the trial's log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a log record to stderr."""
        kind = "warning: " if record.levelno >= logging.WARNING else ""
        sys.stderr.write(f"{kind}{printable(record.getMessage(), LONGEST_LINE)}\n")


def log_of(folder: Path, name: str) -> Path:
    """Return the path of the file that contains a worker's output during a trial."""
    return folder / "logs" / f"{name}.log"


def record_of(run: Path) -> RunRecord | None:
    """Read the record in a run folder, or return None if the folder contains no valid record."""
    try:
        return RunRecord.load(run)
    except RunError:
        return None


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Append all output of this process, including Python's crash messages, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal = [os.dup(stream) for stream in (1, 2)]
    with path.open("ab") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
        faulthandler.enable()
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, original in zip((1, 2), terminal, strict=True):
                os.dup2(original, number)
                os.close(original)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
