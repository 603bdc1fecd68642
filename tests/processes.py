"""Programs that tests start: none outlives its test, and no test waits for ever for one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple


@contextlib.contextmanager
def started(command: Sequence[Any], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program with pipes for what it says, in a session of its own; when the block ends, all of it is killed.

    `subprocess.run` kills the program alone, and then waits for the children that hold its pipes.
    """
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **options
    ) as process:
        try:
            yield process
        finally:
            for pid in family(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def run(command: Sequence[Any], *, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[Any]:
    """What `subprocess.run` gives, of a program that is killed with all its children when the time is up."""
    with started(command, **options) as process:
        out, told = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(command, process.returncode, out, told)


def family(pid: int) -> list[int]:
    """Living processes of the session of `pid`, itself too, and their descendants in whatever session."""
    running = {process.pid: process for process in _running()}
    found = {process.pid for process in running.values() if pid in (process.session, process.pid)}
    while more := {process.pid for process in running.values() if process.parent in found} - found:
        found |= more
    return sorted(found)


def until_alive(pid: int) -> None:
    """Wait until the program handles SIGTERM, as `mlrec` does from its first line on."""
    status, deadline = Path(f"/proc/{pid}/status"), time.monotonic() + 60
    while time.monotonic() < deadline:
        caught = next(int(line.split()[1], 16) for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if caught & 1 << signal.SIGTERM - 1:
            return
        time.sleep(0.005)


class _Process(NamedTuple):
    pid: int
    parent: int
    session: int


def _running() -> Iterator[_Process]:
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent, _, session = status.read_text().rpartition(")")[2].split()[:4]
            if state != "Z":
                yield _Process(int(status.parent.name), int(parent), int(session))
