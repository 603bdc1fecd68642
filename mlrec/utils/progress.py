"""Progress bars, and handling of notes and warnings.

Notes and warnings are log records of the logger "mlrec" and its child loggers.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from mlrec.utils import processes
from mlrec.utils.errors import LONGEST_LINE, printable

LOGGER = logging.getLogger("mlrec")
NOTHING = logging.CRITICAL + 1  # level of a logger that logs nothing


class Step(Protocol):
    """Function that advances a task by `done` units; the text `facts` is shown next to the bar."""

    def __call__(self, done: int = 1, facts: str = "") -> None:
        """Advance the task by `done` units."""
        ...


class Progress(Protocol):
    """Interface for progress bars of long-running work, such as those that the console draws on stderr."""

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Step]:
        """Start a progress bar for `total` units of work; `total` is None if the number is unknown."""
        ...


class Silent:
    """A `Progress` that draws nothing; the default for workflows called from Python."""

    def __repr__(self) -> str:
        return "SILENT"

    @contextlib.contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        """Ignore all steps."""
        yield lambda done=1, facts="": None


SILENT = Silent()


@dataclass(frozen=True)
class RunProgress:
    """A `Progress` for one run in a series of runs; the progress bars of epochs and scoring are hidden."""

    progress: Progress

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Step]:
        """Start a progress bar; epochs and scoring have no bar."""
        return (SILENT if name.startswith(("epoch", "scoring")) else self.progress).task(name, total)


class PythonWarnings(logging.Handler):
    """Logging handler that issues a Python warning for each logged warning and ignores lower levels."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Issue a `UserWarning`."""
        warnings.warn(printable(record.getMessage(), LONGEST_LINE), UserWarning, stacklevel=2)


@contextlib.contextmanager
def logged_to(handler: logging.Handler) -> Iterator[None]:
    """Context manager that also sends notes and warnings to `handler` while the `with` block runs.

    A handler with the level WARNING or higher receives no notes.

    Example:
        >>> with logged_to(PythonWarnings()):
        ...     LOGGER.info("run: runs/first (finished last)")
    """
    before = LOGGER.level
    if handler.level < logging.WARNING:  # the handler accepts notes, which are disabled by default
        LOGGER.setLevel(min(before or logging.INFO, logging.INFO))
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before)


@contextlib.contextmanager
def logged_from(level: int) -> Iterator[None]:
    """Context manager that ignores log records below a level.

    The level WARNING ignores notes, and the level `NOTHING` ignores all records.
    """
    before = LOGGER.level
    LOGGER.setLevel(max(level, LOGGER.getEffectiveLevel()))
    try:
        yield
    finally:
        LOGGER.setLevel(before)


@contextlib.contextmanager
def logged_once() -> Iterator[None]:
    """Context manager that ignores log records whose message was logged before in the `with` block."""
    filters = [(handler, _New()) for handler in LOGGER.handlers]
    for handler, new in filters:
        handler.addFilter(new)
    try:
        yield
    finally:
        for handler, new in filters:
            handler.removeFilter(new)


class _New(logging.Filter):
    """Filter that accepts each message once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the message is new."""
        message = record.getMessage()
        new = message not in self.seen
        self.seen.add(message)
        return new


@contextlib.contextmanager
def first_process_logs() -> Iterator[None]:
    """Log only in the first process of a distributed run."""
    with logged_from(logging.NOTSET if processes.rank() == 0 else NOTHING):
        yield
