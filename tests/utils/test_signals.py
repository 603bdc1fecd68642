from __future__ import annotations

import contextlib
import os
import signal
import time
import weakref
from collections.abc import Iterator
from types import FrameType

import pytest

from mlrec.cli.console import Terminal
from mlrec.utils import signals
from mlrec.utils.errors import MlrecError
from mlrec.utils.signals import Interrupted, SignalReceived, deferred_signals, stopped_says

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture
def leaving() -> Iterator[None]:
    """Both signals end the work while the test runs."""

    def handler(number: int, _: FrameType | None) -> None:
        signals.raise_signal(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    signals.handled()
    for number, previous in before.items():
        signal.signal(number, previous)


def interrupted_work(number: int) -> None:
    """Work that a signal interrupts."""
    os.kill(os.getpid(), number)
    time.sleep(5)


def lose(number: int) -> None:
    """A signal whose exception is dropped on its way."""
    with contextlib.suppress(BaseException):
        interrupted_work(number)


@BOTH
def test_a_signal_is_an_exception(number: signal.Signals, leaving: None) -> None:
    with pytest.raises(SignalReceived) as raised:
        interrupted_work(number)
    assert raised.value.args == (number,)
    signals.handled()
    signals.raise_lost()


@BOTH
def test_a_dropped_signal_is_raised_at_the_end_of_the_command(number: signal.Signals, leaving: None) -> None:
    signals.raise_lost()
    lose(number)
    with pytest.raises(SignalReceived) as raised:
        signals.raise_lost()
    assert raised.value.args == (number,)


def test_a_dropped_signal_is_raised_at_the_next_step_of_a_bar(leaving: None) -> None:
    with Terminal().task("images", 3) as step:
        step()
        lose(signal.SIGTERM)
        with pytest.raises(SignalReceived):
            step()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_python_itself_drops_it(leaving: None) -> None:
    class Gone: ...

    gone = Gone()
    watch = weakref.ref(gone, lambda _: interrupted_work(signal.SIGTERM))
    del gone
    assert watch() is None
    with pytest.raises(SignalReceived):
        signals.raise_lost()


@BOTH
def test_signals_wait_until_processes_are_forked_and_stay_blocked_in_those(number: signal.Signals) -> None:
    answers: list[int] = []

    def answered(told: int, _: object) -> None:
        answers.append(told)

    before = signal.signal(number, answered)
    try:
        with signals.blocked_signals():
            os.kill(os.getpid(), number)
            child = os.fork()
            if not child:
                os._exit(number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            assert answers == []
        assert answers == [number]
    finally:
        after = signal.signal(number, before)
    assert after is answered
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_signal_ends_work_at_once_and_other_work_later() -> None:
    with deferred_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM
        done = []
        with pytest.raises(SignalReceived), stop.at_once():
            done.append("in vain")
        assert not done
    assert stop.number == signal.SIGTERM


@pytest.mark.parametrize("then", [None, AttributeError("a module is half made"), MlrecError("of the signal")])
def test_no_library_can_keep_a_signal_from_ending_the_work(then: Exception | None) -> None:
    def work() -> None:
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGINT)
        if then is not None:
            raise then

    with deferred_signals() as stop:
        with pytest.raises(SignalReceived) as raised, stop.at_once():
            work()
        signals.handled()
    assert raised.value.args == (signal.SIGINT,)


def test_a_command_of_many_runs_says_itself_how_it_goes_on() -> None:
    with pytest.raises(Interrupted) as raised, stopped_says("the same command goes on"):
        raise Interrupted("resume: mlrec train --resume runs/one", signal.SIGTERM)
    assert (str(raised.value), raised.value.exit_code) == ("the same command goes on", 143)
