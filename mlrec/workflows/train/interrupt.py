"""Signals: the first one stops training after the current step, and the second ends the process."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mlrec.utils import processes, signals
from mlrec.utils.errors import MlrecError
from mlrec.utils.signals import SignalReceived


class Interrupted(MlrecError):  # noqa: N818 - nothing went wrong
    """Exception for a run that was stopped by a signal and can be resumed.

    The exit code is 128 plus the signal number.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


def interrupted(folder: Path | None, epoch: int, step: int, number: int) -> Interrupted:
    """Return the error for a run that a signal stopped after `step` in `epoch` (counted from 0)."""
    command = f"{processes.launcher()} train --resume {shlex.quote(str(folder))}"
    return Interrupted(f"stopped at epoch {epoch + 1}, step {step}; resume: {command}", number)


@contextmanager
def stopped_says(message: str) -> Iterator[None]:
    """Context manager that replaces the message of `Interrupted`, for commands that cannot resume the run."""
    try:
        yield
    except Interrupted as stopped:
        stopped.args = (message,)
        raise


class Stop:
    """Stop request: the number of the received signal, or None."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._at_once = False

    def asked(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.number is not None:
            os._exit(128 + number)
        self.number = number
        if self._at_once:
            signals.raise_signal(number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Context manager that ends the block immediately on a signal, for work that a resumed run repeats.

        Raises:
            SignalReceived: A signal was received before or during the block.
        """
        self._at_once = True
        try:
            if self.number is None:
                yield
        finally:
            self._at_once = False
            if self.number is not None:
                raise SignalReceived(self.number)  # also if code in the block caught the first one


@contextmanager
def deferred_signals() -> Iterator[Stop]:
    """Context manager that handles SIGINT and SIGTERM; signals that were already ignored stay ignored."""
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
