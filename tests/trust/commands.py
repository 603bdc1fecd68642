"""The command line in a child of this process: started in a moment, killed or signalled as any other process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing import resource_tracker
from pathlib import Path

from mlrec import __main__
from mlrec.cli import console
from tests.processes import family

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Command:
    """A running `mlrec`, its output in `<log>.out` and `<log>.err`; in a session of its own."""

    def __init__(self, arguments: Sequence[object], cwd: Path, log: Path) -> None:
        self.log = log
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child is what it is to be
        self.pid = os.fork()
        if not self.pid:
            code = 70
            try:
                _let_go()
                _forget_server()
                code = _run([str(argument) for argument in arguments], cwd, log)
            finally:
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def wait(self, seconds: float = 180) -> int:
        """The exit code, -9 after a SIGKILL."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        self.send(signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"still running after {seconds} s: {self.errors()}")

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def errors(self) -> str:
        return self.log.with_suffix(".err").read_text("utf-8")

    def left_behind(self, seconds: float = 30) -> list[int]:
        """Processes of the session that still live after so many seconds; then they are killed."""
        deadline = time.monotonic() + seconds
        while (alive := family(self.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return alive


def _run(arguments: Sequence[str], cwd: Path, log: Path) -> int:
    os.setsid()
    os.chdir(cwd)
    for number, suffix in ((1, ".out"), (2, ".err")):
        handle = os.open(log.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
    sys.argv = ["mlrec", *arguments]
    for number in SIGNALS:
        signal.signal(number, __main__._leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # the threads of the parent do not live in a child
    console._console.cache_clear()
    try:
        __main__.main()
    except SystemExit as leave:
        sys.stderr.flush()
        return int(leave.code or 0)
    return 0


def _forget_server() -> None:
    """The tracker of resources that an earlier test started is no child of this process, and cannot serve it."""
    resource_tracker._resource_tracker.__init__()  # type: ignore[misc]  # in place: functions are bound to it


def _let_go() -> None:
    """Keep none of the parent's pipes: who reads those would wait until this process has ended.

    Their numbers stay taken, since objects that were copied with them may yet close them.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in [int(entry) for entry in os.listdir("/proc/self/fd")]:  # noqa: PTH208 - of descriptors, not files
        if number > 2 and number != nowhere:
            os.dup2(nowhere, number, inheritable=False)
