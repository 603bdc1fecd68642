"""Functions for multiple processes under torchrun: process group, communication and error reports."""

from __future__ import annotations

import inspect
import itertools
import os
import platform
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct, convert_sync_batchnorm
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm

from mlrec.utils.errors import MlrecError, UsageError
from mlrec.utils.processes import rank, world_size

TIMEOUT = timedelta(minutes=30)  # for collectives, because a process may still be decoding its last batches
DOWNLOAD_TIMEOUT = timedelta(hours=6)  # for the first process on a machine, in `first_on_machine`
FLAG_DELAY = 2  # steps after which the value of a `SharedFlag` is known
BATCH_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    BatchNormAct2d,
    nn.SyncBatchNorm,
    SyncBatchNormAct,
)  # converted to SyncBatchNorm without changing the function
# Option of DistributedDataParallel that newer PyTorch versions have renamed; the old name causes a warning.
_RENAMED = "forward_sync_buffers" in inspect.signature(nn.parallel.DistributedDataParallel.__init__).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if _RENAMED else "broadcast_buffers"
_JOBS = itertools.count()
_stores: list[Any] = []  # stores of the current job


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Context manager that joins the process group and leaves it at the end; does nothing in a single process.

    If the block raises an exception, the attribute `speaks` of the exception is set to True in the process that failed
    first, and to False in the other processes. A job can therefore print a single message instead of one message per
    process.
    """
    if world_size() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    shared, number, processes = next(rendezvous("env://", rank(), world_size(), timeout=TIMEOUT))
    # A process may join again for the next run.
    own = distributed.PrefixStore(f"mlrec-{next(_JOBS)}", shared)  # type: ignore[attr-defined]
    _stores.append(own)
    gpu = None
    if device.type == "cuda":
        gpu = device
    try:
        if gpu is not None:
            check_own_gpu(own, gpu)
        distributed.init_process_group(
            "gloo" if gpu is None else "nccl",
            store=own,
            rank=number,
            world_size=processes,
            timeout=TIMEOUT,
            device_id=gpu,
        )
        yield
    except BaseException as error:
        error.speaks = _is_first(own)  # type: ignore[attr-defined]
        _abort(gpu is not None)
        raise
    finally:
        _stores.remove(own)
    distributed.destroy_process_group()


def check_own_gpu(store: Any, device: torch.device) -> None:
    """Check that each process uses a different GPU.

    If processes shared a GPU, NCCL would fail with a message that does not state the cause.

    Raises:
        UsageError: Processes share a GPU; raised in all of these processes.
    """
    properties = torch.cuda.get_device_properties(device)
    own = str(getattr(properties, "uuid", f"{platform.node()} {device.index}"))
    store.set(f"gpu-{rank()}", own)
    sharing = [k for k in range(world_size()) if store.get(f"gpu-{k}").decode() == own]
    if len(sharing) > 1:
        raise UsageError(
            f"processes {', '.join(map(str, sharing))} use the same GPU ({properties.name}); "
            "start one process per GPU, each with a different LOCAL_RANK"
        )


@contextmanager
def first_on_machine() -> Iterator[None]:
    """Context manager that runs the block first in one process per machine, then in the other processes.

    The other processes can reuse files that the first process has downloaded.
    """
    if world_size() == 1:
        yield
        return
    key = f"done-{platform.node()}"
    if int(os.environ.get("LOCAL_RANK", "0")):
        store().wait([key], DOWNLOAD_TIMEOUT)
        yield
        return
    try:
        yield
    finally:
        store().set(key, "")  # even after an error, so that the other processes fail in the same way instead of waiting


def mean(values: Tensor) -> Tensor:
    """Average a tensor over all processes, in place."""
    if world_size() > 1:
        distributed.all_reduce(values)
        values /= world_size()
    return values


def store() -> Any:
    """Return the key-value store of the current job."""
    return _stores[-1]


def gather(values: Tensor) -> list[Tensor]:
    """Gather tensors with equal shape and dtype from all processes, in rank order.

    The values are copied exactly.
    """
    if world_size() == 1:
        return [values]
    content = values.contiguous().view(torch.uint8)
    parts = [torch.empty_like(content) for _ in range(world_size())]
    distributed.all_gather(parts, content)
    return [part.view(values.dtype) for part in parts]


def wait_for_all(device: torch.device) -> None:
    """Wait until every process has called this function."""
    mean(torch.zeros((), device=device)).item()


class SharedFlag:
    """Flag that any process can set and that all processes receive in the same step.

    Each step starts an asynchronous exchange of flags and reads the result of the exchange that was started
    `FLAG_DELAY` steps earlier. Steps therefore do not wait for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pending: deque[tuple[Any, Tensor]] = deque()

    def exchange(self, flag: bool) -> bool:
        """Exchange the flag of this process and return the common flag of an earlier step.

        Every process must call this method once per step. In a single process, the flag is returned without delay.
        """
        if world_size() == 1:
            return flag
        shared = torch.full((), float(flag), device=self._device)
        done = distributed.all_reduce(shared, distributed.ReduceOp.MAX, async_op=True)
        if self._device.type == "cuda":
            done.wait()  # only the stream waits, not this process
            host = torch.empty((), pin_memory=True).copy_(shared, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._pending.append((event.synchronize, host))
        else:
            self._pending.append((done.wait, shared))
        if len(self._pending) <= FLAG_DELAY:
            return False
        wait, value = self._pending.popleft()
        wait()
        return bool(value.item() > 0)


def average_batch_norm(module: nn.Module) -> None:
    """Average the running mean and variance of BatchNorm layers over all processes.

    Each process normalizes with the statistics of its own samples. Running statistics are linear in batch statistics,
    so averaging after each step is equivalent to timm's `--dist-bn reduce` after an epoch. All processes therefore have
    the same buffers whenever a checkpoint is written.
    """
    if world_size() == 1:
        return
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.training]
    buffers = [b for norm in norms for b in (norm.running_mean, norm.running_var) if b is not None]
    if not buffers:
        return
    joined = mean(torch.cat([buffer.flatten() for buffer in buffers]))
    parts = torch.split(joined, [buffer.numel() for buffer in buffers])
    torch._foreach_copy_(buffers, [part.view_as(buffer) for part, buffer in zip(parts, buffers, strict=True)])


def parallel(module: nn.Module, device: torch.device, *, sync_bn: bool) -> nn.Module:
    """Wrap a module so that gradients are averaged over processes.

    Optionally, BatchNorm computes its statistics over the batches of all processes. Buffers are not broadcast in each
    forward pass, see `average_batch_norm`.
    """
    if sync_bn:
        if device.type != "cuda":
            raise UsageError(
                "--sync-bn requires CUDA, because PyTorch supports synchronized BatchNorm only on CUDA; omit --sync-bn"
            )
        module = synchronized_batch_norm(module)
    options: dict[str, Any] = {_SYNC_BUFFERS: False}
    return nn.parallel.DistributedDataParallel(
        module,
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **options,
    )


def synchronized_batch_norm(module: nn.Module) -> nn.Module:
    """Convert all BatchNorm layers to layers that use the samples of all processes.

    timm's conversion is used, because torch's conversion drops the activation and dropout inside timm's
    `BatchNormAct2d`.

    Raises:
        MlrecError: A BatchNorm layer cannot be converted.
    """
    kinds = {type(norm) for norm in module.modules() if isinstance(norm, _BatchNorm)}
    unknown = sorted(kind.__name__ for kind in kinds - set(BATCH_NORMS))
    if unknown:
        raise MlrecError(f"--sync-bn cannot convert {', '.join(unknown)} in this backbone; train without --sync-bn")
    converted: nn.Module = convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return converted


def _abort(nccl: bool) -> None:
    """Leave the job without waiting for processes that may have exited."""
    if not distributed.is_initialized():
        return
    with suppress(RuntimeError):
        if nccl:
            distributed.distributed_c10d._abort_process_group()
        else:
            distributed.destroy_process_group()


def _is_first(store: Any) -> bool:
    """Return whether no other process has failed earlier; True if the store no longer exists."""
    with suppress(RuntimeError):
        return bool(store.add("mlrec-failures", 1) == 1)
    return True
