"""Several processes under torchrun: who this one is, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

TIMEOUT = timedelta(minutes=10)


def rank() -> int:
    """This process's number; 0 is the one that writes, and the only one without torchrun."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Be one of the job's processes while the block runs; nothing happens where there is only one."""
    if world() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def mean(values: Tensor) -> Tensor:
    """The mean over processes, element by element."""
    if world() > 1:
        distributed.all_reduce(values)
        values /= world()
    return values


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process."""
    if world() == 1:
        return flag
    told = torch.tensor([float(flag)], device=device)
    distributed.all_reduce(told)
    return bool(told.item() > 0)


def same_buffers(module: nn.Module) -> None:
    """Give every process the buffers of the first: running means differ between them until now."""
    if world() > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)


def parallel(module: nn.Module, device: torch.device, *, sync_bn: bool) -> nn.Module:
    """The module with gradients averaged over processes, optionally with BatchNorm over the whole batch."""
    if sync_bn:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return nn.parallel.DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)
