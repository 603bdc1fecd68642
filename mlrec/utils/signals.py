"""Convert SIGINT and SIGTERM to an exception, and delay these signals during training.

The exception allows an interrupted command to remove its temporary files. During training, the first signal stops the
run after the current step (see `deferred_signals`).

Python drops an exception that a signal handler raises inside a destructor or a weak reference callback, or while C code
compiles or imports a module. A dropped exception is raised again at the next step of a progress bar, or when the
command ends, so that a command never exits with 0 after a signal. A second signal ends the process immediately.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from mlrec.utils.errors import MlrecError


class SignalReceived(BaseException):
    """Exception for a received signal with the number `args[0]`; `except Exception` does not catch it."""


@dataclass
class _State:
    """Number of the signal that was raised in this process but has not been handled yet."""

    pending: int | None = None


_state = _State()


def raise_signal(number: int) -> NoReturn:
    """Raise `SignalReceived` from a signal handler, and remember the signal until `handled` is called."""
    _state.pending = number
    raise SignalReceived(number)


def raise_lost() -> None:
    """Raise `SignalReceived` if a received signal has not been handled yet."""
    if _state.pending is not None:
        raise SignalReceived(_state.pending)


def handled() -> None:
    """Mark the signal as handled, so that `SignalReceived` is not raised again."""
    _state.pending = None


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Delay SIGINT and SIGTERM until the end of a block that forks processes.

    SIGINT and SIGTERM stay blocked in the forked processes. Python catches all exceptions while a process is forked, so
    an exception raised by a handler would be lost. Blocking the signals in this thread is not sufficient: another
    thread may receive a signal, and the handler would still run in this thread. Outside the main thread, signals are
    not delayed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    for number in handlers:
        signal.signal(number, lambda came, _: received.append(came))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if received:
        signal.raise_signal(received[0])


class Interrupted(MlrecError):  # noqa: N818 - nothing went wrong
    """Exception for a run that was stopped by a signal and can be resumed.

    The exit code is 128 plus the signal number.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


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
            raise_signal(number)

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
    """Context manager that delays SIGINT and SIGTERM; signals that were already ignored stay ignored.

    The first signal is stored in `Stop.number`. The trainer then finishes the step, saves a checkpoint and stops. A
    second signal ends the process immediately. Outside the main thread, signals are not delayed.
    """
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


@contextmanager
def stopped_says(message: str) -> Iterator[None]:
    """Context manager that replaces the message of `Interrupted`, for commands that cannot resume the run."""
    try:
        yield
    except Interrupted as stopped:
        stopped.args = (message,)
        raise
