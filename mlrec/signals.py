"""SIGINT and SIGTERM as an error that ends the work, and that nothing on its way can lose."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

AGAIN = 0.05  # seconds


class Signalled(BaseException):
    """A signal of the number `args[0]`; no `except Exception` holds it, and temporaries are removed on its way."""


def leave(number: int) -> NoReturn:
    """Raise `Signalled` from a signal's handler, and again wherever it is lost, until `arrived` is called.

    What a handler raises is lost in a destructor, in the callback of a weak reference, and where C code that is
    interrupted clears errors, as while source is compiled or a module of Cython is read.
    """
    signal.signal(signal.SIGALRM, partial(_again, number))
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
    raise Signalled(number)


def _again(number: int, _alarm: int, _frame: FrameType | None) -> None:
    if behind(sys.exception()) is None:  # else it is on its way: this is in a `finally` or an `except`
        raise Signalled(number)


def raise_lost() -> None:
    """Raise `Signalled` if it was lost and not raised again yet."""
    if signal.getitimer(signal.ITIMER_REAL)[0]:
        signal.raise_signal(signal.SIGALRM)


def arrived() -> None:
    """`Signalled` was caught by whoever ends the work: it is not raised again."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def behind(problem: BaseException | None) -> Signalled | None:
    """The signal that an error came from: while a class is made, Python tells one as an error of the class."""
    while problem is not None and not isinstance(problem, Signalled):
        problem = problem.__cause__ or problem.__context__
    return problem


def tell_no_loss() -> None:
    """Let Python say nothing of a `Signalled` that it lost, since that is raised again; of other errors as ever."""
    before = sys.unraisablehook

    def told(lost: UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, Signalled):
            before(lost)

    sys.unraisablehook = told


@contextmanager
def held() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block, which forks processes, has ended; in those they stay blocked.

    An error that a handler raises while a process is forked is lost: Python catches all there. To block the signals in
    this thread is not enough: another one takes them, and the handler is still run in this one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    for number in handlers:
        signal.signal(number, lambda told, _: came.append(told))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for told in came[:1]:
        signal.raise_signal(told)
