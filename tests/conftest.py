"""What every test may use."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# One thread a process, here and in all that tests start: the suite runs in as many processes as there are cores, and
# threads that wait for one another on a busy machine take a hundred times as long. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

# Started in the background of a script, a process inherits that SIGINT is ignored; tests of signals need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Real photographs and labels beside the repository; tests that need them are skipped where they are absent."""
    folder = (REPOSITORY / ".." / "shared" / "realdata").resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")  # told at the end of the run, see -rs in pyproject.toml
    return folder
