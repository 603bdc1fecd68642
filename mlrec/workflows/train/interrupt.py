"""Signals during training: the first lets the running step finish and be saved, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mlrec.utils import signals
from mlrec.utils.errors import MlrecError
from mlrec.utils.signals import SignalReceived


class Interrupted(MlrecError):  # noqa: N818 - nothing went wrong
    """A run that was stopped by a signal and can be resumed; its exit code is 128 + the signal's number."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


@contextmanager
def stopped_says(message: str) -> Iterator[None]:
    """Let a run that a signal stops in the block end with this message: of a command that resumes no run by itself."""
    try:
        yield
    except Interrupted as stopped:
        stopped.args = (message,)
        raise


class Stop:
    """Whether a signal asked for an end, and which."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._at_once = False

    def asked(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if self.number is not None:
            os._exit(128 + number)
        self.number = number
        if self._at_once:
            signals.raise_signal(number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Work that a signal leaves in the middle: it is done again from the last checkpoint.

        Raises:
            Signalled: a signal came, before or within.
        """
        self._at_once = True
        try:
            if self.number is None:
                yield
        finally:
            self._at_once = False
            if self.number is not None:
                raise SignalReceived(self.number)  # whatever became of the first


@contextmanager
def deferred_signals() -> Iterator[Stop]:
    """Handle SIGINT and SIGTERM while the block runs; a SIGINT that the parent told to ignore stays ignored."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop.asked)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
