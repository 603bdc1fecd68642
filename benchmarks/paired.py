"""What the benchmarks share: paired ratios with their interval, and the machine they were taken on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from mlrec.metrics.interval import median_interval as ratio_interval

__all__ = ["describe_machine", "ratio_interval"]


def describe_machine() -> str:
    """One line: processor, cores this process may use, torch, GPU."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{name}, {len(os.sched_getaffinity(0))} cores used, torch {torch.__version__.split('+')[0]}, {gpu}"
