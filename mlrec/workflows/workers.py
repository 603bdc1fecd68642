"""Work on many images, spread over all cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.synchronize import Event
from typing import Any

from mlrec.errors import MlrecError

FEW = 64  # images: fewer are decoded here, sooner than workers start
CHUNK = 16
MOST_WORKERS = 61  # Windows waits for no more processes at once

_stop: Event | None = None  # in a worker: set when what it does is not wanted any more


@contextmanager
def mapping(count: int) -> Iterator[Callable[[Callable[[str], Any], Sequence[str]], Iterable[Any]]]:
    """`map`, in this process or over a pool whose workers end with the block and with this process.

    Raises:
        MlrecError: a worker was killed.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count < FEW or cores == 1:
        yield map
        return
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(min(cores, MOST_WORKERS), context, _start_worker, (stop,))
    try:
        yield lambda function, items: pool.map(partial(_unless_stopped, function), items, chunksize=CHUNK)
    except BrokenProcessPool as error:
        causes = "too little memory, or a script that starts work outside of if __name__ == '__main__'"
        raise MlrecError(f"a process that reads images was killed; usual causes: {causes}") from error
    finally:
        stop.set()  # after Ctrl-C or SIGTERM a worker finishes the image in hand, not all that wait
        pool.shutdown(wait=True, cancel_futures=True)


def _unless_stopped(function: Callable[[str], Any], item: str) -> Any:
    return None if _stop is not None and _stop.is_set() else function(item)


def _start_worker(stop: Event) -> None:
    """Leave signals to the parent, and leave with the parent however it ends."""
    global _stop
    _stop = stop
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
