"""The one place of device, precision and threads."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from mlrec.errors import UsageError, printable
from mlrec.processes import keep_memory

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
_HALF: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str = "auto") -> torch.device:
    """`auto`: cuda (the one of this process under torchrun), else mps, else cpu; any other name as torch reads it.

    Raises:
        UsageError: no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"'{printable(name)}' is no device; use auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(f"device {printable(name)}: no CUDA on this machine or in this torch; use --device cpu")
        index = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise UsageError(f"device cuda:{index}: there are {torch.cuda.device_count()}; use one below that")
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device mps: not on this machine; use --device cpu")
    if device.type not in ("cpu", "mps"):
        raise UsageError(f"device '{printable(name)}' is not supported; use auto, cpu, cuda, cuda:N or mps")
    return device


def resolve_precision(name: str, device: torch.device) -> Precision:
    """`auto`: bf16 on CUDA where it has it, else fp32; any other name as it is.

    Raises:
        UsageError: a precision that the device does not have.
    """
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if name not in ("fp32", "tf32", "bf16", "fp16"):
        raise UsageError(f"'{printable(name)}' is no precision; use auto, fp32, tf32, bf16 or fp16")
    if name in ("tf32", "fp16") and device.type != "cuda":
        raise UsageError(f"precision {name} needs CUDA; use bf16 or fp32 on {device.type}")
    return name  # type: ignore[return-value]


def prepare_device(device: torch.device, precision: Precision, threads: int | None = None) -> None:
    """Set what holds for the whole process: TF32 only where asked for, the number of CPU threads, freed memory kept."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if device.type == "cpu":
        keep_memory()
    if threads is not None:
        torch.set_num_threads(threads)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The context a forward pass runs in: half precision where asked for, else none."""
    if precision not in _HALF:
        return nullcontext()
    return torch.autocast(device.type, dtype=_HALF[precision])
