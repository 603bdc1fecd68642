"""What the benchmarks share: sides that take turns, paired ratios with their interval, and the machine they ran on."""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from mlrec.metrics.intervals import median_interval as ratio_interval
from mlrec.utils import processes

if TYPE_CHECKING:
    import torch

    from mlrec.training.devices import Precision

__all__ = ["AS_MLREC", "SIDES", "Side", "Turn", "describe_machine", "ratio_interval", "tell", "timed"]

T = TypeVar("T")
AS_MLREC = {"GOMP_SPINCOUNT": processes.SPIN_COUNT}  # what mlrec's commands put into their environment

# What is measured by device: backbone, side of the images, precision.
SIDES: dict[str, tuple[str, int, Precision]] = {
    "cpu": ("tf_efficientnet_lite0", 224, "fp32"),
    "cuda": ("resnet101", 448, "bf16"),
}


class Turn(NamedTuple, Generic[T]):
    """What a side took for its turn, by the clock and of the processor, its loader processes not counted."""

    seconds: float
    cpu_seconds: float
    found: T


class Side(Generic[T]):
    """One side of a comparison, in a process of its own: what a process sets once for itself holds for no other.

    Args:
        work: at the top of a module; each turn asks what it returns for the next element.
        given: arguments of `work`, that another process can be given.
        environment: what that process finds beside this one's environment; none of how its threads wait or allocate.
    """

    def __init__(self, work: Callable[..., Iterator[T]], *given: object, environment: Mapping[str, str]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        before = dict(os.environ)
        clean = {key: value for key, value in before.items() if not key.startswith(("GOMP_", "OMP_", "MALLOC_"))}
        _set_environment(clean | dict(environment))
        try:
            spawn.Process(target=_take_turns, args=(theirs, work, given), daemon=False).start()
        finally:
            _set_environment(before)
        theirs.close()

    def take_turn(self) -> Turn[T]:
        """Wait for the next element.

        Raises:
            EOFError: the process died; what it said stands above.
        """
        self._pipe.send(None)
        return Turn(*self._pipe.recv())

    def end(self) -> None:
        """Let the process end."""
        self._pipe.close()


def _take_turns(pipe: Connection, work: Callable[..., Iterator[object]], given: tuple[object, ...]) -> None:
    turns = work(*given)
    try:
        while True:
            pipe.recv()
            clock, cpu = time.perf_counter(), time.process_time()
            found = next(turns)
            if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
                sys.modules["torch"].cuda.synchronize()
            pipe.send((time.perf_counter() - clock, time.process_time() - cpu, found))
    except EOFError:
        pass


def _set_environment(wanted: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(wanted)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of `work`, what it leaves to the device included."""
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    begun = time.perf_counter()
    work()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - begun


def tell(title: str, ratios: list[float], aim: str) -> None:
    """Print the median of paired ratios with its interval."""
    middle, low, high = ratio_interval(ratios)
    print(f"{title}: {middle:.3f} (95% interval {low:.3f} to {high:.3f}, {len(ratios)} alternations; {aim})")


def describe_machine() -> str:
    """One line: processor, cores this process may use, torch, GPU."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{name}, {processes.cores()} cores used, torch {torch.__version__.split('+')[0]}, {gpu}"
