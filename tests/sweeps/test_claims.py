"""A point is in the hands of one living process, on this machine or another."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from mlrec.runs import directory
from mlrec.sweeps.claims import STALE, Holder, claimed, holder, last_holder

HOLD = "import sys, time; from pathlib import Path; from mlrec.sweeps.claims import claimed\n"
HOLD += "with claimed(Path(sys.argv[1])) as mine: print(mine, flush=True); time.sleep(60)"


def test_a_claim_is_held_until_given_back(tmp_path: Path) -> None:
    with claimed(tmp_path / "a") as mine:
        assert mine
        assert holder(tmp_path / "a") == Holder(os.getpid(), socket.gethostname())
    assert holder(tmp_path / "a") is last_holder(tmp_path / "a") is None
    with suppress(ValueError), claimed(tmp_path / "a"):
        raise ValueError
    assert last_holder(tmp_path / "a") is None
    assert holder(tmp_path / "never") is None


def test_another_process_holds_it_until_it_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    with claimed(tmp_path / "a") as mine:
        assert not mine
    assert holder(tmp_path / "a") == Holder(process.pid, socket.gethostname())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert holder(tmp_path / "a") is None
    assert last_holder(tmp_path / "a") == Holder(process.pid, socket.gethostname())
    with claimed(tmp_path / "a") as mine:
        assert mine


def test_another_machine_holds_it_as_long_as_its_heart_beats(tmp_path: Path) -> None:
    lock = tmp_path / "a" / directory.LOCK
    lock.parent.mkdir()
    lock.write_text("pid 1 on elsewhere since 2026-01-01 00:00:00")
    with claimed(tmp_path / "a") as mine:
        assert not mine
    old = time.time() - STALE - 1
    os.utime(lock, (old, old))
    assert holder(tmp_path / "a") is None
    with claimed(tmp_path / "a") as mine:
        assert mine
