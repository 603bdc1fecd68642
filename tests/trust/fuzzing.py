"""What a mutation must come to: read, or refused in one message that can be printed; soon, and in little memory."""

from __future__ import annotations

import contextlib
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from mlrec.utils.errors import MlrecError
from tests.trust.mutations import mutated

CI, LONG = 16, 300  # mutations of each file: at every commit, and before a release
SECONDS = 60
MOST_MEMORY = 2_500  # MB


def outlast(file: Path, good: bytes, read: Callable[[], object], count: int) -> int:
    """Have `read` read so many mutations of `file`; how many were refused. Anything but MlrecError fails."""
    before = peak_memory()  # of this process: earlier tests may have needed more than the limit
    read()
    refused = 0
    for seed in range(count):
        file.write_bytes(mutated(good, seed))
        try:
            with in_time():
                read()
        except MlrecError as error:
            refused += 1
            if not _can_be_shown(str(error)):
                raise AssertionError(f"seed {seed}: {error!r}") from error
        except Exception as problem:
            raise AssertionError(f"seed {seed}: {''.join(traceback.format_exception(problem)[-8:])}") from problem
        finally:
            file.write_bytes(good)
    assert peak_memory() < max(MOST_MEMORY, before + 100)
    return refused


def _can_be_shown(told: str) -> bool:
    lines = told.splitlines()
    return len(lines) <= 12 and "".join(lines).isprintable() and "weights_only=False" not in told


def peak_memory() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """Fail what takes longer than a minute."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
