"""What a process knows of the others before torch is there."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from mlrec.utils import processes


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told what to keep")
@pytest.mark.parametrize(("given", "kept"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_memory_that_was_freed_is_used_again_unless_the_user_says_so(given: dict[str, str], kept: bool) -> None:
    script = """
import resource
from mlrec.utils import processes
processes.keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"1" * 40_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    clean = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES" and not k.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=clean | given, check=True)
    assert (int(done.stdout) < 100) == kept  # pages asked of the kernel for the third block
