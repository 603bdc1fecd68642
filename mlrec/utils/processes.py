"""Rank of this process under torchrun, and its share of cores and memory; torch is not needed."""

from __future__ import annotations

import ctypes
import os
import sys

SPIN_COUNT = "10000"  # iterations of busy-waiting before a thread sleeps
KEPT_BYTES = 2**30  # most freed memory that glibc keeps
OLD_LIMIT = 2**25  # largest value of M_MMAP_THRESHOLD in glibc before 2.35
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>


def rank() -> int:
    """Rank of this process; rank 0 writes files and prints, and is the only process without torchrun."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Number of processes of this job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world() -> int:
    """Number of processes of this job on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def own_cores() -> int:
    """Number of cores of this process; the processes of a job on one machine share its cores evenly."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def set_idle_policy() -> None:
    """Let idle OpenMP threads sleep early instead of busy-waiting; must be called before torch is imported.

    On a shared machine, a busy-waiting thread may hold the core of the thread that it waits for. docs/performance.md
    has measurements. OMP_WAIT_POLICY and GOMP_SPINCOUNT are kept if the user sets them. Child processes inherit the
    setting.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory, at most `KEPT_BYTES` bytes; no effect without glibc.

    By default glibc returns every large block to the kernel, which fills the next one with zeros page by page.
    Without it a training step of 16 images on two idle cores took 1.21 times as long (1.13 to 1.84), one of a single
    image 1.01 times (0.98 to 1.02); measured with benchmarks/process.py, see docs/performance.md. GLIBC_TUNABLES and
    MALLOC_... are kept if the user sets them.
    """
    set_by_user = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if sys.platform == "linux" and not set_by_user:
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        if set_option is not None:
            set_option(M_MMAP_THRESHOLD, KEPT_BYTES) or set_option(M_MMAP_THRESHOLD, OLD_LIMIT)
            set_option(M_TRIM_THRESHOLD, KEPT_BYTES)


def launcher() -> str:
    """Command line before a subcommand that starts the same number of processes as this job.

    For several machines, the options of torchrun are left to the user.
    """
    if world_size() == 1:
        return "mlrec"
    here = local_world()
    if here == world_size():
        return f"torchrun --nproc-per-node {here} -m mlrec"
    return f"torchrun [as before, {world_size()} processes in all] -m mlrec"
