"""`Queue`: which point is next, on an Optuna storage that workers of several machines share.

The storage hands out each waiting point, and whoever gets it claims its folder. What is done is told by the run
folders alone: without its storage a sweep goes on all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrec.errors import RunError, printable

JOURNAL = "optuna.journal"
_POINT, _FAILURES = "point", "failures"


@dataclass(frozen=True)
class Taken:
    """A point in the hands of this process; its trial's number, and how often it had failed when it was offered."""

    name: str
    number: int
    failures: int


class Queue:
    """The points of one sweep that wait for a worker.

    Args:
        storage: a journal file, or a database as `sqlite:///...` or `postgresql://...`.
        study: name of the Optuna study in it.
    """

    def __init__(self, storage: str, study: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._states = optuna.trial.TrialState
        self._update_finished = optuna.exceptions.UpdateFinishedTrialError
        try:
            self._study = optuna.create_study(
                study_name=study, storage=_opened(storage), load_if_exists=True, direction="maximize"
            )
        except Exception as error:  # each database driver raises its own
            raise _unusable(storage, error) from error

    def waiting(self) -> set[str]:
        """Names of the points that nobody has taken."""
        trials = self._study.get_trials(deepcopy=False, states=(self._states.WAITING,))
        return {str(trial.user_attrs.get(_POINT)) for trial in trials}

    def offer(self, points: Mapping[str, Mapping[str, Any]], failures: Mapping[str, int]) -> None:
        """Let workers take these points, settings by name; those that wait already are not offered twice.

        A point may be taken and fail between a look at its files and this. Whoever takes it then sees that it has
        failed more often than `failures` says, those until that look, and leaves it.
        """
        there = self.waiting()
        for name, settings in points.items():
            if name not in there:
                attributes = {_POINT: name, _FAILURES: failures.get(name, 0)}
                attributes |= {key: _plain(value) for key, value in settings.items()}
                self._study.enqueue_trial({}, user_attrs=attributes)

    def take(self) -> Taken | None:
        """The next point, taken by this process alone; None where none waits."""
        if not self.waiting():
            return None
        trial = self._study.ask()
        name = trial.user_attrs.get(_POINT)
        if name is None:  # another worker took the last one in between
            self._study.tell(trial.number, state=self._states.FAIL)
            return None
        return Taken(str(name), trial.number, int(trial.user_attrs.get(_FAILURES, 0)))

    def finish(self, taken: Taken, value: float | None) -> None:
        """Close the trial of a point: with its mAP, or as failed."""
        state = self._states.FAIL if value is None else None
        # SQLite may hand one trial to two workers: the claim lets one of them train, both come here
        with contextlib.suppress(self._update_finished):  # between the look whether it is finished and the writing
            self._study.tell(taken.number, value, state=state, skip_if_finished=True)


def _opened(storage: str) -> Any:
    if "://" in storage:
        return storage
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(storage))


def _unusable(storage: str, error: Exception) -> RunError:
    cause = str(error).partition("\n")[0].rstrip(".")
    return RunError(f"--storage {printable(storage)}: {printable(cause)}; give a file, or a database that Optuna opens")


def _plain(value: Any) -> Any:
    """`value` as Optuna stores it: JSON."""
    return value if isinstance(value, bool | int | float | str | None) else str(value)
