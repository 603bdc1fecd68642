"""Several processes under torchrun: how they join, what they tell each other, and who speaks when one fails."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous

from mlrec.errors import UsageError
from mlrec.processes import rank, world

TIMEOUT = timedelta(minutes=10)
_JOBS = itertools.count()


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Be one of the job's processes while the block runs; nothing happens where there is only one.

    What ends the block with an error is marked `speaks`: true in the process that failed first, so that the job
    ends with one message and not with one of each process.
    """
    if world() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    shared, number, processes = next(rendezvous("env://", rank(), world(), timeout=TIMEOUT))
    # A process may join again for its next run.
    store = distributed.PrefixStore(f"mlrec-{next(_JOBS)}", shared)  # type: ignore[attr-defined]
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=number, world_size=processes, timeout=TIMEOUT)
    try:
        yield
    except BaseException as error:
        error.speaks = _is_first(store)  # type: ignore[attr-defined]
        raise
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
        if device.type != "cuda":
            raise UsageError("--sync-bn needs CUDA: torch has it there alone")
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return nn.parallel.DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)


def _is_first(store: Any) -> bool:
    """Whether no other process has failed before; true where the others cannot be asked any more."""
    with suppress(RuntimeError):
        return bool(store.add("mlrec-failures", 1) == 1)
    return True
