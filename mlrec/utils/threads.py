"""Work on many images, spread over threads: reading and decoding let go of Python's lock, so all cores have work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from mlrec.utils.processes import cores

AHEAD = 4  # items in work or done before their turn, for each thread
Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def thread_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None, ahead: int | None = None
) -> Iterator[Iterator[Result]]:
    """The results of `function` in the order of `items`; when the block ends, however, no thread works on.

    Threads and not processes: one that a signal meets while it starts prints a traceback or stays.

    Args:
        function: called in the threads.
        items: read as needed, in this thread.
        threads: how many; by default one for each core.
        ahead: items in work or done before their turn; by default a few for each thread.
    """
    number = threads or cores()
    pool = ThreadPoolExecutor(number)
    try:
        yield _in_order(pool, function, items, number * AHEAD if ahead is None else ahead)
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
