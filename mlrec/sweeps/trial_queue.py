"""Trial queue of a sweep: an Optuna study shared by all workers, which may be on multiple machines.

Optuna assigns each waiting trial to one worker and records the heartbeats of running trials. If a worker stops
responding, its trial is queued again, up to a maximum number of times. This module adds guarantees that Optuna does not
provide:

- Two processes that call `enqueue_trial` could add the same trial twice; a file lock prevents this.
- With SQLite, Optuna could assign a trial to two workers, because it reads before it locks the database. In this
  module, each transaction locks the database before it reads.
- The journal storage of Optuna has no heartbeats; `HeartbeatJournal` adds heartbeats.
- Optuna detects a dead worker only after `GRACE` seconds. For workers on this machine, this module also checks whether
  the process is running.

The results of the trials are stored in the run folders. If the storage is lost, only the record of failures is lost.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from mlrec.run_folders import directory
from mlrec.sweeps.grid import Trial
from mlrec.utils.errors import RunError

HEARTBEAT = 10  # seconds
GRACE = 60  # seconds without a heartbeat after which a worker counts as dead
MAX_FAILURES = 2  # a trial that failed this often is not started again
RUN, WORKER, ERROR, BEAT = "run", "worker", "error", "heartbeat"
LOCK, CLAIMS = ".queue.lock", ".claims"


class TrialFailed(Exception):  # noqa: N818 - the trial failed, and the sweep continues
    """Exception raised when a trial fails; the message is one line."""


@dataclass(frozen=True)
class Attempts:
    """State of a trial in the queue, with the number of failures so far.

    Attributes:
        status: "waiting" or "running"; None if the trial is in neither state.
        failures: Number of failures.
        error: Message of the last failure, in one line, or "" if there was no failure.
    """

    status: Literal["waiting", "running"] | None = None
    failures: int = 0
    error: str = ""


class TrialQueue:
    """Queue from which workers take the trials of a sweep.

    Args:
        storage: URL of a database, or the path of a journal file.
        folder: Folder of the sweep; the folder name is also the name of the Optuna study.

    Raises:
        RunError: The storage cannot be opened.
    """

    def __init__(self, storage: str, folder: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats are
        self._retry = RetryHeartbeatStaleTrialCallback(max_retry=MAX_FAILURES - 1)
        self._lock = folder / LOCK
        try:
            with _exclusive(self._lock):  # two processes that create the tables of a new database would fail
                self._storage = _opened(storage, self._retry)
                self._study = optuna.create_study(
                    study_name=folder.name, storage=self._storage, load_if_exists=True, direction="maximize"
                )
        except Exception as error:  # each database driver raises its own
            cause = str(error).partition("\n")[0].rstrip(".")
            hint = "use a journal file or a database URL"
            raise RunError(f"--storage {storage}: {cause}; {hint}") from error

    def attempts(self) -> dict[str, Attempts]:
        """Return a dict from the name of each trial to its state in the queue."""
        known: dict[str, Attempts] = {}
        for entry in self._study.get_trials(deepcopy=False):
            name = str(entry.user_attrs.get(RUN))
            last = known.get(name, Attempts())
            if entry.state == TrialState.FAIL:
                error = entry.user_attrs.get(
                    ERROR, "the worker stopped responding: it was killed, or the machine is down"
                )
                last = Attempts(last.status, last.failures + 1, str(error))
            elif entry.state == TrialState.RUNNING:
                last = Attempts("running", last.failures, last.error)
            elif entry.state == TrialState.WAITING and last.status is None:
                last = Attempts("waiting", last.failures, last.error)
            known[name] = last
        return known

    def enqueue(self, trials: Sequence[Trial], due: Callable[[Trial, Attempts], bool]) -> dict[str, Attempts]:
        """Queue the trials that are due and are neither waiting nor running, and return all states."""
        known = self.attempts()
        if not _missing(trials, known, due):
            return known
        with _exclusive(self._lock):
            for trial in _missing(trials, self.attempts(), due):
                values = {key: _plain(value) for key, value in trial.values.items()}
                self._study.enqueue_trial({}, user_attrs={**values, RUN: trial.name})
        return self.attempts()

    def train_next(self, train: Callable[[str], float | None]) -> bool:
        """Take a waiting trial and train it, or return False if no trial is waiting.

        Args:
            train: Function that trains the trial with the given name and returns its mAP. The function returns None if
                the trial is not finished and another worker may take it, and raises `TrialFailed` if training fails.
        """
        if not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            return False
        worker = f"{os.getpid()} {socket.gethostname()}"

        def objective(trial: optuna.Trial) -> float:
            trial.set_user_attr(WORKER, worker)
            name = trial.user_attrs.get(RUN)
            try:
                value = None
                if name is not None:  # otherwise another worker took the last waiting trial, and Optuna made a new one
                    value = train(str(name))
            except TrialFailed as error:
                trial.set_user_attr(ERROR, str(error))
                raise
            if value is None:
                raise optuna.TrialPruned
            return value

        # A worker that was stopped for a time may find its trial declared dead. Its run is finished all the same; which
        # of these errors Optuna raises depends on the state that it finds.
        with suppress(ValueError, AssertionError, UpdateFinishedTrialError):
            self._study.optimize(objective, n_trials=1, catch=(TrialFailed,))
        return True

    def values(self, name: str, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of a queued trial for the given `keys`; keys that are not set are omitted."""
        entries = self._study.get_trials(deepcopy=False)
        attributes = next((entry.user_attrs for entry in entries if entry.user_attrs.get(RUN) == name), {})
        return {key: attributes[key] for key in keys if key in attributes}

    def fail_silent(self) -> None:
        """Mark trials that had no heartbeat for `GRACE` seconds as failed; Optuna queues these trials again."""
        optuna.storages.fail_stale_trials(self._study)

    def busy(self) -> set[int]:
        """Return the ids of the processes that are training a trial on this machine."""
        pids = (_process_here(entry) for entry in self._running())
        return {pid for pid in pids if pid is not None}

    def has_worked(self, pid: int) -> bool:
        """Return whether the process with this id on this machine has taken a trial."""
        return any(_process_here(entry) == pid for entry in self._study.get_trials(deepcopy=False))

    def crashed(self, pid: int, error: str) -> None:
        """Mark the trial of a dead process as failed, and queue it again if this is the first failure."""
        for entry in self._running():
            if _process_here(entry) == pid:
                self._storage.set_trial_user_attr(entry._trial_id, ERROR, error)
                if self._end(entry, TrialState.FAIL):
                    self._retry(self._study, entry)

    def release(self, pid: int | None = None) -> None:
        """End the trial of a dead process without counting a failure, so that it can be queued again.

        Args:
            pid: Process id. By default, the trials of all dead processes on this machine and all trials without a
                worker are ended.
        """
        for entry in self._running():
            process = _process_here(entry)
            if pid is not None:
                released = process == pid
            elif process is not None:
                released = not _alive(process)
            else:
                released = WORKER not in entry.user_attrs
            if released:
                self._end(entry, TrialState.PRUNED)

    def _running(self) -> list[FrozenTrial]:
        return self._study.get_trials(states=(TrialState.RUNNING,))

    def _end(self, entry: FrozenTrial, state: TrialState) -> bool:
        """Set the final state of a trial, unless another process has already set it."""
        try:
            self._study.tell(entry.number, state=state)
        except (ValueError, UpdateFinishedTrialError):
            return False
        return True


class HeartbeatJournal(JournalStorage, BaseHeartbeat):
    """Optuna journal file with heartbeats, which Optuna itself supports only for databases.

    The timestamps come from the clocks of the workers. The clocks of all workers must agree within a fraction of
    `GRACE`.
    """

    def __init__(self, file: str, callback: Callable[[optuna.Study, FrozenTrial], None]) -> None:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        super().__init__(JournalFileBackend(file))
        self._callback = callback

    def record_heartbeat(self, trial_id: int) -> None:
        """Store the current time as the heartbeat of a trial."""
        self.set_trial_system_attr(trial_id, BEAT, time.time())

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        stale = []
        for entry in self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,)):
            started = entry.datetime_start.timestamp() if entry.datetime_start else 0.0
            if max(started, entry.system_attrs.get(BEAT, 0.0)) < time.time() - GRACE:
                stale.append(entry._trial_id)
        return stale

    def get_heartbeat_interval(self) -> int:
        """Return the number of seconds between two heartbeats."""
        return HEARTBEAT

    def get_heartbeat_stale_trial_callback(self) -> Callable[[optuna.Study, FrozenTrial], None]:
        """Return the callback for a trial whose worker stopped responding."""
        return self._callback


@contextmanager
def claimed(folder: Path, name: str) -> Iterator[bool]:
    """Claim a trial while the `with` block runs; yield False if another process has claimed the trial.

    A file lock prevents two processes from using the same run folder. Without the lock, two workers could use the same
    folder if one of them is suspended and then continues, or if the storage of the queue is lost or replaced. The
    operating system releases the lock when the process ends.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(directory.locked(folder / CLAIMS / name))
        except RunError:
            yield False
            return
        yield True


def is_claimed(folder: Path, name: str) -> bool:
    """Return whether a process has claimed a trial."""
    if not (folder / CLAIMS / name).exists():
        return False
    with claimed(folder, name) as free:
        return not free


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Wait for a file lock, and hold it while the `with` block runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _opened(storage: str, retry: RetryHeartbeatStaleTrialCallback) -> BaseStorage:
    if "://" not in storage:
        return HeartbeatJournal(storage, retry)
    sqlite = storage.startswith("sqlite")
    options: dict[str, Any] = {}
    if sqlite:
        options = {"connect_args": {"timeout": GRACE, "isolation_level": None}}
    database = RDBStorage(
        storage, options, heartbeat_interval=HEARTBEAT, grace_period=GRACE, heartbeat_stale_trial_callback=retry
    )
    if sqlite:
        from sqlalchemy import event

        event.listen(database.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return database


def _missing(
    trials: Sequence[Trial], known: dict[str, Attempts], due: Callable[[Trial, Attempts], bool]
) -> list[Trial]:
    pairs = [(trial, known.get(trial.name, Attempts())) for trial in trials]
    return [trial for trial, attempts in pairs if attempts.status is None and due(trial, attempts)]


def _process_here(entry: FrozenTrial) -> int | None:
    """Return the id of the process that took a trial, or None if the process is not on this machine."""
    pid, _, host = str(entry.user_attrs.get(WORKER, "")).partition(" ")
    if host != socket.gethostname():
        return None
    return int(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _plain(value: object) -> bool | int | float | str | None:
    """Convert a value to the form in which Optuna stores it."""
    if isinstance(value, bool | int | float | str | None):
        return value
    return str(value)
