"""Who works on which point: a lock that the kernel frees when its holder dies, and a heartbeat for other machines."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlrec.errors import RunError
from mlrec.runs import directory

HEARTBEAT = 5.0  # seconds
STALE = 60.0  # a holder on another machine that was silent for so many seconds is dead
_HOLDER = re.compile(r"pid (\d+) on (\S+) ")


@dataclass(frozen=True)
class Holder:
    """The process that has claimed a point."""

    pid: int
    host: str

    @property
    def here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()


def holder(claim: Path) -> Holder | None:
    """Who holds a claim and lives; None where nobody does."""
    found = last_holder(claim)
    if found is None or (found.here and not _alive(found.pid)):
        return None
    return found if found.here or time.time() - (claim / directory.LOCK).stat().st_mtime < STALE else None


def last_holder(claim: Path) -> Holder | None:
    """Who holds a claim or died with it; None where it was never taken, or given back."""
    try:
        match = _HOLDER.match((claim / directory.LOCK).read_text(encoding="utf-8"))
    except OSError:
        return None
    return Holder(int(match[1]), match[2]) if match else None


@contextlib.contextmanager
def claimed(claim: Path) -> Iterator[bool]:
    """Hold the claim while the block runs; False is given where another living process holds it."""
    other = holder(claim)
    if other is not None and (other.pid, other.here) != (os.getpid(), True):
        yield False
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(directory.locked(claim))
        except RunError:
            yield False
            return
        done = threading.Event()
        beat = threading.Thread(target=_beat, args=(claim / directory.LOCK, done), daemon=True)
        beat.start()
        try:
            yield True
        finally:
            done.set()


def _beat(lock: Path, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT):
        with contextlib.suppress(OSError):
            os.utime(lock)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
