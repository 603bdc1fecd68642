"""Work spread over threads: results in order, read no further ahead than told, nothing goes on after the end."""

from __future__ import annotations

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from mlrec.datasets.images.decode import _metadata_ignored
from mlrec.utils.threads import thread_map


def test_results_come_in_order_whatever_finishes_first() -> None:
    def slow_when_even(k: int) -> int:
        time.sleep(0.002 * (k % 2 == 0))
        return k * k

    with thread_map(slow_when_even, range(40), threads=4) as results:
        assert list(results) == [k * k for k in range(40)]


def test_items_are_read_only_a_few_ahead() -> None:
    items = iter(range(1000))
    with thread_map(abs, items, threads=2, ahead=6) as results:
        assert next(results) == 0
    assert next(items) == 7


def test_waiting_items_are_dropped_when_the_block_ends_and_no_thread_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    dropped, shutdown = threading.Event(), ThreadPoolExecutor.shutdown

    def hold(k: int) -> int:
        begun.append(k)
        dropped.wait(60 * (k > 0))
        return k

    def end(pool: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        shutdown(pool, wait=False, cancel_futures=cancel_futures)
        dropped.set()
        shutdown(pool, wait=wait)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", end)
    before = threading.active_count()
    with thread_map(hold, range(100), threads=1, ahead=9) as results:
        next(results)
    assert begun in ([0], [0, 1])
    assert threading.active_count() == before


def test_an_error_is_that_of_the_first_item_that_has_one() -> None:
    with pytest.raises(ZeroDivisionError), thread_map(lambda k: 1 // k, [1, 0, "x"], threads=2) as results:  # type: ignore[operator]
        list(results)


def test_threads_that_decode_give_back_the_filters_of_warnings() -> None:
    before = list(warnings.filters)
    first, second = ExitStack(), ExitStack()
    first.enter_context(_metadata_ignored())
    second.enter_context(_metadata_ignored())
    first.close()
    with warnings.catch_warnings(record=True) as heard:
        warnings.warn("broken EXIF", stacklevel=1)
    assert not heard
    second.close()
    assert warnings.filters == before
