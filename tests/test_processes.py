"""What a process knows of the others before torch is there."""

from __future__ import annotations

import pytest

from mlrec import processes


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "mlrec"),
        ({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, "torchrun --nproc-per-node 2 -m mlrec"),
        ({"WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "4"}, "torchrun [as before, 6 processes in all] -m mlrec"),
    ],
)
def test_the_launcher_starts_as_many_processes_again(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes.launcher() == expected
