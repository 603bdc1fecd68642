"""This process among others: which one torchrun says it is, and how it shares cores and memory. No torch is needed."""

from __future__ import annotations

import ctypes
import os
import sys

SPIN_COUNT = "10000"  # of a thread that waits, before it sleeps
KEPT_BYTES = 2**30
OLD_LIMIT = 2**25  # the largest block that glibc before 2.35 takes from memory it keeps
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>


def rank() -> int:
    """This process's number; 0 is the one that writes and speaks, and the only one without torchrun."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world() -> int:
    """Number of processes that work together on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_cores() -> int:
    """The cores of this process, where processes of one machine work together its share."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def set_idle_policy() -> None:
    """Let threads that wait for one another sleep soon; to be called before torch is imported.

    By default they look again and again, and where others use the cores, too, hold the core of the one they wait for.
    What so many looks cost and gain stands in docs/performance.md. Whoever sets OMP_WAIT_POLICY or GOMP_SPINCOUNT knows
    better. Processes that this one starts inherit it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def keep_freed_memory() -> None:
    """Let glibc keep freed memory, `KEPT_BYTES` bytes at most, for the tensors to come; elsewhere nothing.

    By default it gives every large block back to the kernel, which fills the next one with zeros, page by page; what
    that costs stands in docs/performance.md. Whoever sets GLIBC_TUNABLES or MALLOC_... knows better.
    """
    told = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if sys.platform == "linux" and not told:
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        if set_option is not None:
            set_option(M_MMAP_THRESHOLD, KEPT_BYTES) or set_option(M_MMAP_THRESHOLD, OLD_LIMIT)
            set_option(M_TRIM_THRESHOLD, KEPT_BYTES)


def launcher() -> str:
    """The words before a subcommand that start as many processes as work together here.

    On several machines only whoever started them knows the options of torchrun.
    """
    if world_size() == 1:
        return "mlrec"
    here = local_world()
    options = f"--nproc-per-node {here}" if here == world_size() else f"[as before, {world_size()} processes in all]"
    return f"torchrun {options} -m mlrec"
