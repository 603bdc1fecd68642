"""Choice and setup of device, precision and threads."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from mlrec.utils.errors import UsageError, printable
from mlrec.utils.processes import keep_freed_memory, local_world

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
HALF: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device with this name; "auto" is CUDA if available, otherwise MPS, otherwise the CPU.

    Under torchrun, "cuda" is the GPU of this process.

    Raises:
        UsageError: This machine has no such device.
    """
    if name == "auto":
        name = "cpu"
        if torch.cuda.is_available():
            name = "cuda"
        elif torch.backends.mps.is_available():
            name = "mps"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"'{printable(name)}' is not a device; use auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(f"device {printable(name)}: no CUDA on this machine or in this torch; use --device cpu")
        return torch.device("cuda", _own_index() if device.index is None else _named_index(device.index))
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device mps: not on this machine; use --device cpu")
    if device.type not in ("cpu", "mps"):
        raise UsageError(f"device '{printable(name)}' is not supported; use auto, cpu, cuda, cuda:N or mps")
    return device


def _own_index() -> int:
    """Return the index of this process's GPU: one GPU per process of this machine, in order."""
    index, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if index < count:
        return index
    # Under SLURM each task may see only its own GPU, as number 0. Processes of torchrun all see the same GPUs.
    # `distributed.joined` checks that no two processes share one.
    if count == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    cause = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={printable(visible)})"
    raise UsageError(
        f"{local_world()} processes on this machine, but only {count} GPU{'s' * (count != 1)} visible{cause}; "
        f"use torchrun --nproc-per-node {count}"
    )


def _named_index(index: int) -> int:
    count = torch.cuda.device_count()
    if local_world() > 1:
        raise UsageError(
            f"device cuda:{index}: all {local_world()} processes of this machine would use one GPU; use --device cuda, "
            "and CUDA_VISIBLE_DEVICES to choose the GPUs"
        )
    if index >= count:
        raise UsageError(f"device cuda:{index}: this machine has {count} GPUs, numbered from 0")
    return index


def resolve_precision(name: str, device: torch.device) -> Precision:
    """Return the precision with this name; "auto" is bf16 on CUDA from compute capability 8.0, fp16 for 7.x, or fp32.

    `torch.cuda.is_bf16_supported()` is not used: it is true also for older GPUs, which emulate bf16 slowly.

    Raises:
        UsageError: The device does not support the precision.
    """
    if name == "auto":
        major = torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0
        if major >= 8:
            return "bf16"
        return "fp16" if major == 7 else "fp32"
    if name not in ("fp32", "tf32", "bf16", "fp16"):
        raise UsageError(f"'{printable(name)}' is not a precision; use auto, fp32, tf32, bf16 or fp16")
    if name in ("tf32", "fp16") and device.type != "cuda":
        raise UsageError(f"precision {name} needs CUDA; use bf16 or fp32 on {device.type}")
    return name  # type: ignore[return-value]


def prepare_device(device: torch.device, precision: Precision, threads: int | None = None) -> None:
    """Set the current GPU, TF32 (only if requested), CPU threads and memory reuse for the whole process."""
    if device.type == "cuda":
        torch.cuda.set_device(device)  # pinned memory, streams and third-party code use the current device
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if device.type == "cpu":
        keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the autocast context of a forward pass for half precision, otherwise a context without effect."""
    if precision not in HALF:
        return nullcontext()
    return torch.autocast(device.type, dtype=HALF[precision])
