"""This process among others: which one torchrun says it is, and how it shares the cores. No torch is needed."""

from __future__ import annotations

import os


def rank() -> int:
    """This process's number; 0 is the one that writes and speaks, and the only one without torchrun."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores() -> None:
    """Let threads that wait for one another sleep soon; to be called before torch is imported.

    By default they look again and again, and where others use the cores, too, hold the core of the one they wait for:
    docs/performance.md has figures of a busy machine; on an idle one it was not measured. Whoever sets OMP_WAIT_POLICY
    or GOMP_SPINCOUNT knows better. Processes that this one starts inherit it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def launcher() -> str:
    """The words before a subcommand that start as many processes as work together here.

    On several machines only whoever started them knows the options of torchrun.
    """
    if world() == 1:
        return "mlrec"
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world()))
    options = f"--nproc-per-node {here}" if here == world() else f"[as before, {world()} processes in all]"
    return f"torchrun {options} -m mlrec"
