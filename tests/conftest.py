"""What every test may use."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# One thread per process unless the user sets another number, here and in all processes that tests start: the suite runs
# in as many processes as there are cores, and threads that wait for one another on a busy machine take a hundred times
# as long. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Started in the background of a script, a process inherits that SIGINT is ignored; tests of signals need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]


class Notes(logging.Handler):
    """Keeps the notes and warnings of the package."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if record.levelno >= logging.WARNING:
            self.warnings.append(record.getMessage())


@pytest.fixture
def notes() -> Iterator[Notes]:
    """The notes and warnings that the package logs during a test."""
    from mlrec.utils.progress import logged_to

    collected = Notes()
    with logged_to(collected):
        yield collected


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Real photographs and labels beside the repository; tests that need them are skipped where they are absent."""
    folder = (REPOSITORY / ".." / "shared" / "realdata").resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")  # told at the end of the run, see -rs in pyproject.toml
    return folder


@pytest.fixture(scope="session")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Open a page in headless Chromium: gives the document after its scripts, fails on anything the console says."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium, so the page was opened in no browser: apt-get install chromium")
    profile = tmp_path_factory.mktemp("chromium")

    def opened(file: Path, *flags: str) -> str:
        done = subprocess.run(
            [
                found, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
                f"--user-data-dir={profile}", "--virtual-time-budget=3000", *flags, "--dump-dom",
                file.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        assert "CONSOLE" not in done.stderr, done.stderr
        return done.stdout

    return opened


@pytest.hookimpl(trylast=True)  # after -m has chosen
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests of the GPU on a machine without one; the summary reports each of them."""
    chosen = [item for item in items if item.get_closest_marker("cuda")]
    if not chosen:
        return
    import torch

    if not torch.cuda.is_available():
        for item in chosen:
            item.add_marker(pytest.mark.skip(reason="NOT RUN: needs a CUDA GPU, and this machine has none"))
