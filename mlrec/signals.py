"""SIGINT and SIGTERM as an error that ends the work, and that nothing on its way can lose."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

AGAIN = 1.0  # seconds; destructors and generators that end on the error's way look like a loss, and have this long


class Signalled(BaseException):
    """A signal of the number `args[0]`; no `except Exception` holds it, and temporaries are removed on its way."""


@dataclass
class _State:
    """Of this process.

    Attributes:
        leaving: what was raised last and has not arrived yet.
        before: who handled SIGALRM until then.
        held: while processes are forked.
    """

    leaving: Signalled | None = None
    before: Any = signal.SIG_DFL
    held: bool = False


_state = _State()


def leave(number: int) -> NoReturn:
    """Raise `Signalled` from a signal's handler, and again wherever it is lost, until `arrived` is called.

    What a handler raises is lost in a destructor, in the callback of a weak reference, and where C code that is
    interrupted clears errors, as while source is compiled or a module of Cython is read.
    """
    if _state.leaving is None:
        _state.before = signal.signal(signal.SIGALRM, _again) or signal.SIG_DFL  # None: one that is not Python's
    _state.leaving = Signalled(number)
    signal.setitimer(signal.ITIMER_REAL, AGAIN, AGAIN)
    raise _state.leaving


def _again(_number: int, _frame: FrameType | None) -> None:
    if not _state.held and not _is_behind(_state.leaving, sys.exception()):
        raise_lost()


def raise_lost() -> None:
    """Raise `Signalled` if it has not arrived, whatever became of it."""
    if _state.leaving is not None:
        _state.leaving = Signalled(*_state.leaving.args)  # anew: the one that was lost may stand behind other errors
        raise _state.leaving


def arrived() -> None:
    """`Signalled` was caught by whoever ends the work: it is not raised again."""
    if _state.leaving is not None:
        _state.leaving = None
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, _state.before)


def _is_behind(cause: BaseException | None, problem: BaseException | None) -> bool:
    """Whether `problem` is `cause` or came of it: then that is on its way, and this in a `finally` or an `except`."""
    waiting, seen = [problem], list[BaseException]()
    while waiting:
        error = waiting.pop()
        if error is not None and not any(error is other for other in seen):
            seen.append(error)
            waiting += [error.__cause__, error.__context__]
    return any(error is cause for error in seen)


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
    _state.held = True
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
        _state.held = False
    for told in came[:1]:
        signal.raise_signal(told)
