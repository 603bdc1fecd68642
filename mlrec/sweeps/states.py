"""How far the points of a sweep are, read from their folders and from nothing else."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from mlrec.errors import MlrecError, RunError
from mlrec.files import read_own_json, write_json
from mlrec.metrics.result import Metrics
from mlrec.runs import directory
from mlrec.runs.record import RunRecord
from mlrec.sweeps.claims import holder
from mlrec.sweeps.grid import Point

Status = Literal["waiting", "running", "interrupted", "failed", "finished"]
TRIES = 2  # a point that failed so often is not tried again
FAILURES = "failures"
TAIL = 4096  # bytes of a log that hold its last lines


class Failure(msgspec.Struct, frozen=True):
    """Why a point has no result.

    Attributes:
        error: in one line.
        times: how often the point has failed.
        log: where the whole text is.
        crash: the worker was killed; another try may do better, as an error would not.
    """

    error: str
    times: int
    log: str
    crash: bool = False


@dataclass(frozen=True)
class Folder:
    """The folder of a sweep: a folder a point, and what is known of points without one."""

    path: Path

    def run(self, name: str) -> Path:
        """The run folder of a point."""
        return self.path / name

    def claim(self, name: str) -> Path:
        """Where a worker says that it has taken a point."""
        return self.path / ".claims" / name

    def log(self, name: str) -> Path:
        """What the worker printed while it was at a point."""
        return self.path / "logs" / f"{name}.log"

    def failure(self, name: str) -> Failure | None:
        """The last failure of a point."""
        file = self._failure(name)
        return read_own_json(file, Failure, RunError, "remove it") if file.is_file() else None

    def failures_of(self, name: str) -> int:
        """How often a point has failed."""
        failure = self.failure(name)
        return failure.times if failure is not None else 0

    def failures(self) -> dict[str, int]:
        """How often each point has failed that has."""
        return {file.stem: self.failures_of(file.stem) for file in (self.path / FAILURES).glob("*.json")}

    def note_failure(self, name: str, error: str, *, crash: bool = False) -> None:
        """Write down one more failure of a point."""
        failure = Failure(error, 1 + self.failures_of(name), str(self.log(name)), crash)
        write_json(self._failure(name), msgspec.to_builtins(failure))

    def forget_failure(self, name: str) -> None:
        """Let a point be tried as if it had never failed."""
        self._failure(name).unlink(missing_ok=True)

    def _failure(self, name: str) -> Path:
        return self.path / FAILURES / f"{name}.json"


@dataclass(frozen=True)
class State:
    """A point at a moment.

    Attributes:
        detail: where a running one is.
        failure: of one that failed, also where it waits to be tried again.
        mAP: of a finished one, as a fraction.
        seconds: that a finished one took, without features that others share.
    """

    point: Point
    status: Status
    detail: str = ""
    failure: Failure | None = None
    mAP: float | None = None
    seconds: float | None = None


def state_of(point: Point, folder: Folder) -> State:
    """What the files say of a point."""
    record = record_of(folder.run(point.name))
    if record is not None and record.status == "finished":
        seconds = sum(spent for part, spent in record.seconds.items() if part != "features")
        return State(point, "finished", "", None, _mAP(folder.run(point.name)), seconds)
    if holder(folder.claim(point.name)) is not None:
        return State(point, "running", _place(folder.run(point.name), record))
    failure = folder.failure(point.name)
    if failure is not None:
        return State(point, "failed", failure=failure)
    return State(point, "waiting" if record is None else "interrupted")


def record_of(run: Path) -> RunRecord | None:
    """The record of a run folder, None where there is none yet."""
    try:
        return RunRecord.load(run)
    except RunError:
        return None


def resumable(run: Path) -> bool:
    """Whether a run folder holds something to go on with."""
    saved = (directory.RESUME, directory.RESUME_PREVIOUS)
    return record_of(run) is not None and any((run / name).is_file() for name in saved)


def _mAP(run: Path) -> float | None:  # noqa: N802 - the metric's name
    with contextlib.suppress(MlrecError):
        return Metrics.load(run / directory.METRICS).mAP
    return None


def _place(run: Path, record: RunRecord | None) -> str:
    """`epoch 3/20, loss 0.1234`, from the end of the log."""
    last = _last_step(run / directory.LOG)
    if record is None or last is None:
        return "starting"
    loss = last.get("loss")
    told = f"epoch {last['epoch']}/{record.config.get('epochs')}"
    return told if loss is None else f"{told}, loss {loss:.4f}"


def _last_step(log: Path) -> dict[str, Any] | None:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - TAIL))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        with contextlib.suppress(json.JSONDecodeError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("event") == "steps":
                return entry
    return None
