"""Work that a signal leaves in the middle, and who tells it."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from mlrec.utils import signals
from mlrec.utils.errors import MlrecError
from mlrec.utils.signals import SignalReceived
from mlrec.workflows.train.interrupt import Interrupted, deferred_signals, stopped_says


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
