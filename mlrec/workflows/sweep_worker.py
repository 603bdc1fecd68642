"""A worker of a sweep: a process that trains one point after another, sharing the features of a frozen trunk."""

from __future__ import annotations

import faulthandler
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
from typing import TYPE_CHECKING

from mlrec.errors import MlrecError, printable
from mlrec.progress import Silent
from mlrec.runs.record import Run
from mlrec.sweeps.claims import claimed
from mlrec.sweeps.grid import Point
from mlrec.sweeps.queue import Queue
from mlrec.sweeps.states import Folder, record_of, resumable
from mlrec.workflows.interrupt import Interrupted

if TYPE_CHECKING:
    from mlrec.training.features import FeatureStore

# Points that agree in these share the features of their frozen trunk; keys of the views are looked at by the store.
TRUNK = ("backbone", "weights", "init", "pretrained", "img_size", "normalization", "decode", "data", "precision")


@dataclass(frozen=True)
class Work:
    """What a worker must know; it is sent to another process.

    Attributes:
        points: by name; the others that the queue holds belong to another plan.
        pool: the split that folds are parts of, whose features are computed once for all folds.
    """

    points: Mapping[str, Point]
    folder: Path
    storage: str
    study: str
    file: Path | None
    recipe: str | None
    pool: str | None
    command: tuple[str, ...]


def work(task: Work) -> None:
    """Take points until none waits. Never returns: the exit code is 0, 143 for a signal, 1 after a bug."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    folder, queue, shared = Folder(task.folder), Queue(task.storage, task.study), _Shared()
    while (taken := queue.take()) is not None:
        value = None
        try:
            if taken.name in task.points:
                with claimed(folder.claim(taken.name)) as mine:
                    if mine and folder.failures_of(taken.name) == taken.failures:
                        value = _result(task, folder, task.points[taken.name], shared)
        finally:
            queue.finish(taken, value)
    sys.exit(0)


class _Shared:
    """The features of the trunk that the last points had in common."""

    def __init__(self) -> None:
        self._trunk: object = None
        self._store: FeatureStore | None = None

    def store(self, point: Point, pool: str | None) -> FeatureStore:
        """The store for a point: that of the point before it, unless the trunk is another."""
        from mlrec.datasets.folder import Dataset
        from mlrec.training.features import FeatureStore

        trunk = repr([point.flags.get(key) for key in TRUNK])
        if self._store is None or trunk != self._trunk:
            data = point.flags["data"]
            self._trunk, self._store = trunk, FeatureStore(Dataset.load(data).manifest(pool) if pool else None)
        return self._store


def _result(task: Work, folder: Folder, point: Point, shared: _Shared) -> float | None:
    """Train a point, or go on with it; its mAP, None where it failed."""
    with _output_to(folder.log(point.name)):
        try:
            run = _trained(task, folder, point, shared)
        except Interrupted as stopped:
            sys.exit(stopped.exit_code)
        except MlrecError as error:
            sys.stderr.write(f"error: {error}\n")
            folder.note_failure(point.name, printable(str(error).splitlines()[0]))
            return None
        except Exception as error:
            traceback.print_exc()
            folder.note_failure(point.name, printable(f"{type(error).__name__}: {error}"))
            raise SystemExit(1) from error
    folder.forget_failure(point.name)
    return run.metrics().mAP


def _trained(task: Work, folder: Folder, point: Point, shared: _Shared) -> Run:
    from mlrec.workflows.train import resume, train

    run = folder.run(point.name)
    record = record_of(run)
    if record is not None and record.status == "finished":
        return Run(run, record)
    store = shared.store(point, task.pool)
    again = resumable(run)
    sys.stderr.write(f"{'resumed' if again else 'started'} by pid {os.getpid()} on {socket.gethostname()}\n")
    if again:
        return resume(run, features=store, progress=_Written())
    shutil.rmtree(run, ignore_errors=True)  # killed before there was anything to go on with
    return train(
        point.flags, file=task.file, recipe=task.recipe, out=folder.path, name=point.name, command=task.command,
        features=store, progress=_Written(),
    )  # fmt: skip


class _Written(Silent):
    """A `Progress` for the log of a point: what is said, without bars."""

    def say(self, text: str) -> None:
        """One line."""
        sys.stderr.write(f"{text}\n")

    def warn(self, text: str) -> None:
        """One line that the user should act on."""
        sys.stderr.write(f"warning: {text}\n")


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Let everything that this process prints, a crash of the interpreter too, go to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [os.dup(stream) for stream in (1, 2)]
    with path.open("ab") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
        faulthandler.enable()
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
