"""Entry point of `mlrec` and `python -m mlrec`; after a signal, the program prints one line and exits."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command-line interface."""
    _open_what_is_closed()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # ignored under nohup
            signal.signal(number, _leave)
    from mlrec.cli.app import main as run
    from mlrec.utils import processes

    processes.set_idle_policy()
    run()


def _open_what_is_closed() -> None:
    """Redirect closed standard streams to /dev/null.

    Otherwise, files opened later would get the descriptors of these streams.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - stays open until the process exits


def _leave(number: int, _frame: FrameType | None) -> None:
    os.write(2, b"error: interrupted\n" if number == signal.SIGINT else b"error: terminated\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
