"""What every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Real photographs and labels beside the repository; tests that need them are skipped where they are absent."""
    folder = (REPOSITORY / ".." / "shared" / "realdata").resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")  # told at the end of the run, see -rs in pyproject.toml
    return folder
