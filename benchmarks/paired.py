"""What the benchmarks share: paired ratios with their interval, and the machine they were taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def ratio_interval(ratios: Sequence[float], draws: int = 2000) -> tuple[float, float, float]:
    """Median of paired ratios and the 95 % bootstrap interval of that median."""
    values = np.asarray(ratios)
    drawn = np.median(np.random.default_rng(0).choice(values, (draws, len(values))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(np.median(values)), float(low), float(high)


def describe_machine() -> str:
    """One line: processor, cores this process may use, torch, GPU."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{name}, {len(os.sched_getaffinity(0))} cores used, torch {torch.__version__.split('+')[0]}, {gpu}"
