"""Rank of this process under torchrun, and the cores and memory available to the process.

This module does not require torch.
"""

from __future__ import annotations

import ctypes
import os
import sys

SPIN_COUNT = "10000"  # iterations of busy-waiting before a thread sleeps
KEPT_BYTES = 2**30  # maximum amount of freed memory that glibc keeps
OLD_LIMIT = 2**25  # largest value of M_MMAP_THRESHOLD in glibc before 2.35
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from <malloc.h>


def rank() -> int:
    """Return the rank of this process.

    Rank 0 writes files and prints. Without torchrun, the rank is always 0.
    """
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes in this job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world() -> int:
    """Return the number of processes of this job on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def own_cores() -> int:
    """Return the number of cores for this process.

    All processes of a job on a machine share the cores evenly.
    """
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def set_idle_policy() -> None:
    """Make idle OpenMP threads sleep early instead of busy-waiting.

    The function must be called before torch is imported. On a shared machine, a busy-waiting thread may occupy the core
    that another thread needs. Measurements are in docs/performance.md. Values of OMP_WAIT_POLICY and GOMP_SPINCOUNT
    that the user has set are not changed. Child processes inherit the setting.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def keep_freed_memory() -> None:
    """Make glibc reuse up to `KEPT_BYTES` bytes of freed memory; has no effect without glibc.

    By default, glibc returns every large freed block to the kernel, which then has to zero-fill the next block page by
    page. Without this setting, a training step on two idle cores took 1.21 times as long with 16 images, and 1.01 times
    as long with one image. The measurement with benchmarks/process.py is described in docs/performance.md. Values of
    GLIBC_TUNABLES and MALLOC_... that the user has set are not changed.
    """
    set_by_user = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if sys.platform == "linux" and not set_by_user:
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # not available in other C libraries
        if set_option is not None:
            set_option(M_MMAP_THRESHOLD, KEPT_BYTES) or set_option(M_MMAP_THRESHOLD, OLD_LIMIT)
            set_option(M_TRIM_THRESHOLD, KEPT_BYTES)


def launcher() -> str:
    """Return the command-line prefix that starts the same number of processes as this job.

    The subcommand follows the prefix. If the job uses multiple machines, the prefix contains a placeholder for the
    torchrun options.
    """
    if world_size() == 1:
        return "mlrec"
    here = local_world()
    if here == world_size():
        return f"torchrun --nproc-per-node {here} -m mlrec"
    return f"torchrun [as before, {world_size()} processes in all] -m mlrec"
