"""Failures of the machine in training and inference, each turned into one line with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mlrec.config import Config
from mlrec.training.devices import Precision, resolve_precision
from mlrec.utils import processes
from mlrec.utils.errors import RunError, counted, is_out_of_memory, printable


@contextmanager
def explained(config: Config, device: torch.device, precision: Precision) -> Iterator[None]:
    """Turn out of memory, a batch too small, a failing compiler and a lost process of a training run into one line.

    Raises:
        RunError: instead of those.
    """
    try:
        yield
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise RunError(
            f"BatchNorm cannot train on one number a channel: at {config.img_size} px the last map is one location, "
            "and a batch holds one sample; use a larger --img-size or --batch-size, or fewer --grad-accum-steps"
        ) from error
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        if config.compile and type(error).__module__.startswith(("torch._dynamo.", "torch._inductor.")):
            told = printable(text.splitlines()[0]) if text else type(error).__name__
            raise RunError(
                f"torch.compile failed ({told}); look after its C++ compiler, or leave --compile out"
            ) from error
        if "does not have a deterministic implementation" in text:
            operation = printable(text.partition(" does not have")[0])
            raise RunError(
                f"--deterministic: {operation} of this backbone has no deterministic form on {device.type}; "
                "train without --deterministic, or with another backbone"
            ) from error
        if is_out_of_memory(error):
            raise RunError(_training_advice(config, device, precision)) from error
        if processes.world_size() > 1 and any(sign in text for sign in ("gloo", "NCCL", "Connection closed", "peer")):
            raise RunError(
                "another process of this job ended; its message says why (killed without one: lack of memory, likely)"
            ) from error
        raise


@contextmanager
def memory_explained(
    batch_flag: str,
    device: torch.device,
    precision: Precision | None = None,
    *,
    batch_size: int | None = None,
    size: int | None = None,
) -> Iterator[None]:
    """Turn running out of memory in inference into one line.

    Args:
        batch_flag: the flag that sets the batch size of this command.
        device: where the model runs.
        precision: of the backbone; None where no other one can be chosen.
        batch_size: images in the batch; None while the model is moved to the device.
        size: side of the images in pixels.

    Raises:
        RunError: instead of the error.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        where = f" at {batch_size} images of {size} px per batch" if batch_size else " before the first batch"
        ways = []
        if batch_size and batch_size > 1:
            ways.append(f"{batch_flag} {batch_size // 2}")
        if precision is not None:
            ways += _half(device, precision)
        if not ways:
            ways = ["--device cpu"] if device.type != "cpu" else ["a machine with more memory"]
        raise RunError(f"out of {_memory(device)}{where}; try {' or '.join(ways)}") from error


def _training_advice(config: Config, device: torch.device, precision: Precision) -> str:
    """What ran out, at which sizes, and the smallest change that needs less."""
    world = processes.world_size()
    own = max(1, config.batch_size // world)  # samples of a step in this process
    batch = f"batch size {config.batch_size}" + (f" ({own} in each of {world} processes)" if world > 1 else "")
    ways = []
    # At least twice as many equal parts; --grad-accum-steps must divide the samples of a process, and then the batch.
    more = [steps for steps in range(2 * config.grad_accum_steps, own + 1) if own % steps == 0]
    if more:
        ways.append(f"--grad-accum-steps {more[0]} (parts of {own // more[0]})")
    ways += _half(device, precision)
    if not more:
        ways.append("a smaller --img-size")
    return (
        f"out of {_memory(device)} at {batch} in {counted(config.grad_accum_steps, 'part')}, {config.img_size} px, "
        f"{precision}; try {' or '.join(ways)}"
    )


def _memory(device: torch.device) -> str:
    """The memory of the device, with its size where that is known."""
    if device.type == "cpu":
        return "memory"
    if device.type != "cuda":
        return "GPU memory"
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # the failed context cannot be asked any more
        return "GPU memory"
    return f"GPU memory ({total / 1e9:.0f} GB, {free / 1e9:.1f} GB free)"


def _half(device: torch.device, precision: Precision) -> list[str]:
    """The flag of the half precision of the device, unless that is in use."""
    if precision in ("bf16", "fp16"):
        return []
    half = resolve_precision("auto", device) if device.type == "cuda" else "bf16"
    return [f"--precision {half}"] if half in ("bf16", "fp16") else []
