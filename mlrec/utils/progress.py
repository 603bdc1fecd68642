"""What long work tells while it goes on. Workflows speak to `Progress`; only the console knows how it is drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol


class Step(Protocol):
    """Called as a task goes on: `done` more units, and optionally facts to show beside the bar."""

    def __call__(self, done: int = 1, facts: str = "") -> None:
        """Advance the task by `done` units."""
        ...


class Progress(Protocol):
    """Bars and lines for a person; everything goes to stderr, results do not."""

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Step]:
        """A piece of long work of `total` units."""
        ...

    def say(self, text: str) -> None:
        """One line: what was filled in, what was decided, what was written."""
        ...

    def warn(self, text: str) -> None:
        """One line that the user should act on."""
        ...


class Silent:
    """A `Progress` that tells nothing: the default of every workflow when called from Python."""

    def __repr__(self) -> str:
        return "SILENT"

    @contextlib.contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        """Do nothing at each step."""
        yield lambda done=1, facts="": None

    def say(self, text: str) -> None:
        """Drop the line."""

    def warn(self, text: str) -> None:
        """Drop the line."""


SILENT = Silent()
