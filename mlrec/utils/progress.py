"""`Progress`: bars, notes and warnings of long work. Workflows call it; the console draws it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from mlrec.utils.errors import LONGEST_LINE, printable


class Step(Protocol):
    """Function that advances a task by `done` units, optionally with facts to show next to the bar."""

    def __call__(self, done: int = 1, facts: str = "") -> None:
        """Advance the task by `done` units."""
        ...


class Progress(Protocol):
    """Bars, notes and warnings for the user. They go to stderr; results do not."""

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Step]:
        """Start a bar for work of `total` units; None if the number is unknown."""
        ...

    def say(self, text: str) -> None:
        """Print a note: a default that was filled in, a decision, a file that was written."""
        ...

    def warn(self, text: str) -> None:
        """Print a warning that the user should act on."""
        ...


class Silent:
    """A `Progress` that prints nothing: the default of all workflows when called from Python."""

    def __repr__(self) -> str:
        return "SILENT"

    @contextlib.contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        """Ignore all steps."""
        yield lambda done=1, facts="": None

    def say(self, text: str) -> None:
        """Ignore the note."""

    def warn(self, text: str) -> None:
        """Drop the line."""


class PythonWarnings(Silent):
    """A `Progress` without bars and notes, for a caller that prints itself: warnings become Python's warnings."""

    def warn(self, text: str) -> None:
        """Issue a `UserWarning`."""
        warnings.warn(printable(text, LONGEST_LINE), UserWarning, stacklevel=2)


SILENT = Silent()


@dataclass(frozen=True)
class RunProgress:
    """A `Progress` for one of many runs that hides bars of epochs and notes."""

    progress: Progress

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Step]:
        """Start a bar, unless it is that of an epoch."""
        return (SILENT if name.startswith(("epoch", "scoring")) else self.progress).task(name, total)

    def say(self, text: str) -> None:
        """Ignore the note, which is the same for every run."""

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.progress.warn(text)
