"""What every test may use."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Real photographs and labels beside the repository; tests that need them are skipped where they are absent."""
    folder = (REPOSITORY / ".." / "shared" / "realdata").resolve()
    if not folder.is_dir():
        warnings.warn(f"SKIPPED: no real data at {folder}", stacklevel=1)
        pytest.skip("no real data beside the repository")
    return folder
