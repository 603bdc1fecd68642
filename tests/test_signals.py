from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import weakref
from collections.abc import Iterator
from types import FrameType

import pytest

from mlrec import signals
from mlrec.signals import Signalled

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
SOON, REAL = 0.05, signals.AGAIN
LONG = 4 * SOON


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both signals leave the work while the test runs."""
    monkeypatch.setattr(signals, "AGAIN", SOON)

    def told(number: int, _: FrameType | None) -> None:
        signals.leave(number)

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    signals.arrived()
    for number, handler in before.items():
        signal.signal(number, handler)


def lasting(number: int) -> None:
    """Work that a signal meets."""
    os.kill(os.getpid(), number)
    time.sleep(5)


def lose(number: int) -> None:
    """A signal whose error something on its way holds."""
    with contextlib.suppress(BaseException):
        lasting(number)


@BOTH
def test_what_was_lost_is_raised_again(number: signal.Signals, leaving: None) -> None:
    lose(number)
    with pytest.raises(Signalled) as raised:
        time.sleep(5)
    assert raised.value.args == (number,)


def test_it_is_raised_again_as_often_as_it_is_lost(leaving: None) -> None:
    lose(signal.SIGTERM)
    for _ in range(3):
        with pytest.raises(Signalled):
            time.sleep(5)


def test_it_is_raised_once_where_it_is_not_lost(leaving: None) -> None:
    cleaned = []

    def work() -> None:
        try:
            lasting(signal.SIGTERM)
        finally:
            time.sleep(LONG)
            with contextlib.suppress(KeyError):
                try:
                    raise KeyError("in the cleaning")
                finally:
                    time.sleep(LONG)
            cleaned.append(True)

    with pytest.raises(Signalled):
        work()
    signals.arrived()
    time.sleep(LONG)
    assert cleaned


def test_a_generator_that_ends_on_its_way_is_let_finish(leaving: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """That looks like a loss: no error is handled while Python closes it."""
    monkeypatch.setattr(signals, "AGAIN", REAL)
    cleaned = []

    def numbers() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            time.sleep(LONG)
            cleaned.append(True)

    def work() -> None:
        for _ in numbers():
            lasting(signal.SIGTERM)

    with pytest.raises(Signalled):
        work()
    assert cleaned


def test_what_was_lost_can_be_asked_for(leaving: None) -> None:
    signals.raise_lost()
    lose(signal.SIGINT)
    with pytest.raises(Signalled):
        signals.raise_lost()
    signals.arrived()
    signals.raise_lost()


def test_python_itself_loses_it_and_says_nothing(
    leaving: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone: ...

    def told(_: object) -> None:
        lasting(signal.SIGTERM)

    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)
    signals.tell_no_loss()
    gone = Gone()
    watch = weakref.ref(gone, told)
    del gone
    assert watch() is None
    with pytest.raises(Signalled):
        time.sleep(5)
    assert capsys.readouterr().err == ""


def test_other_errors_that_python_loses_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone:
        def __del__(self) -> None:
            raise KeyError("in a destructor")

    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)
    signals.tell_no_loss()
    Gone()
    assert "in a destructor" in capsys.readouterr().err


def test_what_came_of_it_is_not_taken_for_a_loss(leaving: None) -> None:
    """Not even by way of an error that says it caused itself, as some libraries have."""

    def work() -> None:
        try:
            lasting(signal.SIGTERM)
        except Signalled as signalled:
            try:
                raise RuntimeError("of a class that is made") from signalled
            except RuntimeError as error:
                error.__cause__ = error
                time.sleep(LONG)
                raise

    with pytest.raises(RuntimeError):
        work()
    with pytest.raises(Signalled):
        time.sleep(5)


def test_a_later_work_is_left_as_well(leaving: None) -> None:
    """The first signal still stands behind what is handled."""
    with pytest.raises(Signalled):
        lasting(signal.SIGINT)
    signals.arrived()
    try:
        lasting(signal.SIGTERM)
    except Signalled:
        signals.arrived()
        lose(signal.SIGINT)
        with pytest.raises(Signalled) as raised:
            time.sleep(5)
    assert raised.value.args == (signal.SIGINT,)


def test_timers_and_handlers_of_others_are_left_alone(leaving: None) -> None:
    came = []
    before = signal.signal(signal.SIGALRM, lambda number, _: came.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, SOON)
        signals.raise_lost()
        signals.arrived()
        time.sleep(LONG)
        assert came == [signal.SIGALRM]
        lose(signal.SIGTERM)
        signals.arrived()
        signal.raise_signal(signal.SIGALRM)
        assert came == [signal.SIGALRM] * 2
    finally:
        signal.signal(signal.SIGALRM, before)


def test_what_was_lost_waits_until_processes_are_forked(leaving: None) -> None:
    lose(signal.SIGTERM)
    with signals.held():
        time.sleep(LONG)
        forked = True
    assert forked
    with pytest.raises(Signalled):
        time.sleep(5)


@BOTH
def test_signals_wait_until_processes_are_forked_and_stay_blocked_in_those(number: signal.Signals) -> None:
    answers: list[int] = []

    def answered(told: int, _: object) -> None:
        answers.append(told)

    before = signal.signal(number, answered)
    try:
        with signals.held():
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
