"""What the benchmarks share: seconds, paired ratios with their interval, and the machine they were taken on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mlrec.metrics.interval import median_interval as ratio_interval

if TYPE_CHECKING:
    import torch

    from mlrec.training.devices import Precision

__all__ = ["SIDES", "describe_machine", "ratio_interval", "tell", "timed"]

# What is measured by device: backbone, side of the images, precision.
SIDES: dict[str, tuple[str, int, Precision]] = {
    "cpu": ("tf_efficientnet_lite0", 224, "fp32"),
    "cuda": ("resnet101", 448, "bf16"),
}


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of `work`, what it leaves to the device included."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def tell(title: str, ratios: list[float], aim: str) -> None:
    """Print the median of paired ratios with its interval."""
    middle, low, high = ratio_interval(ratios)
    print(f"{title}: {middle:.3f} (95 % interval {low:.3f} to {high:.3f}, {len(ratios)} alternations; {aim})")


def describe_machine() -> str:
    """One line: processor, cores this process may use, torch, GPU."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{name}, {len(os.sched_getaffinity(0))} cores used, torch {torch.__version__.split('+')[0]}, {gpu}"
