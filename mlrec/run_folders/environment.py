"""`environment`: versions, machine and settings that a run record needs for reproducibility."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mlrec import __version__
from mlrec.utils import processes

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "torchvision", "timm", "numpy")


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """Return versions, machine, device, precision, threads and processes, as `run.json` stores them.

    Args:
        device: Device of the model; for CUDA the name of the GPU and the CUDA version are added.
        precision: Precision of the backbone.

    Returns:
        JSON values by name.
    """
    import torch  # run records are also read without it

    gpu = {}
    if device.type == "cuda":
        gpu = {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return {
        "mlrec": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "machine": platform.machine(),
        "device": device.type,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "processes": processes.world_size(),
        **gpu,
    }
