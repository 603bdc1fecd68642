"""Failures of the machine in training and inference, reported in one line with a way to fix them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mlrec.config import Config
from mlrec.training.devices import Precision, resolve_precision
from mlrec.utils import processes
from mlrec.utils.errors import RunError, counted, is_out_of_memory


@contextmanager
def explained(config: Config, device: torch.device, precision: Precision) -> Iterator[None]:
    """Explain lack of memory, too small a batch, a failing compiler and a lost process of a training run in one line.

    Raises:
        RunError: Instead of those errors.
    """
    try:
        yield
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise RunError(
            f"BatchNorm cannot train on one value per channel: at {config.img_size} px the feature map has one "
            "location, and a batch has one sample; use a larger --img-size or --batch-size, or fewer --grad-accum-steps"
        ) from error
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        if config.compile and type(error).__module__.startswith(("torch._dynamo.", "torch._inductor.")):
            reason = text.splitlines()[0] if text else type(error).__name__
            raise RunError(
                f"torch.compile failed ({reason}); check its C++ compiler, or train without --compile"
            ) from error
        if "does not have a deterministic implementation" in text:
            operation = text.partition(" does not have")[0]
            raise RunError(
                f"--deterministic: {operation} of this backbone has no deterministic implementation on {device.type}; "
                "train without --deterministic, or with another backbone"
            ) from error
        if is_out_of_memory(error):
            raise RunError(_training_advice(config, device, precision)) from error
        if processes.world_size() > 1 and any(sign in text for sign in ("gloo", "NCCL", "Connection closed", "peer")):
            raise RunError(
                "another process of this job ended; see its message (without one it was killed, probably for lack of "
                "memory)"
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
    """Explain lack of memory in inference in one line.

    Args:
        batch_flag: Flag that sets the batch size of the command.
        device: Device of the model.
        precision: Precision of the backbone; None if the command has no option for it.
        batch_size: Images in the batch; None while the model is moved to the device.
        size: Side of the images in pixels.

    Raises:
        RunError: Instead of the error.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        where = " before the first batch"
        if batch_size:
            where = f" at {batch_size} images of {size} px per batch"
        ways = []
        if batch_size and batch_size > 1:
            ways.append(f"{batch_flag} {batch_size // 2}")
        if precision is not None:
            ways += _half(device, precision)
        if not ways:
            ways = ["--device cpu"]
            if device.type == "cpu":
                ways = ["a machine with more memory"]
        raise RunError(f"out of {_memory(device)}{where}; try {' or '.join(ways)}") from error


def _training_advice(config: Config, device: torch.device, precision: Precision) -> str:
    """Name the memory that ran out, the sizes in use, and the smallest change that needs less."""
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
    """Name the memory of the device, with its size if that is known."""
    if device.type == "cpu":
        return "memory"
    if device.type != "cuda":
        return "GPU memory"
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # CUDA answers no queries after a failure
        return "GPU memory"
    return f"GPU memory ({total / 1e9:.0f} GB, {free / 1e9:.1f} GB free)"


def _half(device: torch.device, precision: Precision) -> list[str]:
    """Return the flag for half precision on the device, unless half precision is in use."""
    if precision in ("bf16", "fp16"):
        return []
    half = "bf16"
    if device.type == "cuda":
        half = resolve_precision("auto", device)
    if half in ("bf16", "fp16"):
        return [f"--precision {half}"]
    return []
