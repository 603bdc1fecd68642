"""Parallel processing of many images in threads.

Reading and decoding release the GIL, so all cores are used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from mlrec.utils.processes import cores

AHEAD = 4  # items per thread that may be in progress or finished before the result is consumed
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def thread_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None, ahead: int | None = None
) -> Iterator[Iterator[Result]]:
    """Context manager that yields an iterator over the results of `function`, in the order of `items`.

    All threads are stopped at the end of the `with` block, even after an error. Threads are used instead of processes
    because a process that receives a signal during startup prints a traceback or hangs.

    Args:
        function: Function to call in the threads.
        items: Items to process, which are consumed on demand in the calling thread.
        threads: Number of threads [default: one per core].
        ahead: Maximum number of items that are processed ahead of the caller [default: four per thread].

    Example:
        >>> with thread_map(len, ["a", "bb", "ccc"], threads=2) as lengths:
        ...     list(lengths)
        [1, 2, 3]
    """
    number = threads or cores()
    if ahead is None:
        ahead = number * AHEAD
    pool = ThreadPoolExecutor(number)
    try:
        yield _in_order(pool, function, items, ahead)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
