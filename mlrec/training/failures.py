"""Conversion of machine failures, such as out of memory, to one-line errors that suggest a fix."""

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
    """Context manager that converts machine failures in a training run to one-line errors.

    The failures are: out of memory, a batch that is too small, a compiler error, and a lost process.

    Raises:
        RunError: The training run failed with one of these errors.
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
                f"torch.compile failed ({reason}); check the C++ compiler, or train without --compile"
            ) from error
        if "does not have a deterministic implementation" in text:
            operation = text.partition(" does not have")[0]
            raise RunError(
                f"--deterministic: {operation} in this backbone has no deterministic implementation on {device.type}; "
                "train without --deterministic, or use a different backbone"
            ) from error
        if is_out_of_memory(error):
            raise RunError(_training_advice(config, device, precision)) from error
        if processes.world_size() > 1 and any(sign in text for sign in ("gloo", "NCCL", "Connection closed", "peer")):
            raise RunError(
                "another process in this job exited; see the error message of that process (if there is none, the "
                "process was killed, probably because memory ran out)"
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
    """Context manager that converts an out-of-memory error in inference to a one-line error.

    Args:
        batch_flag: Flag of the command that sets the batch size.
        device: Device of the model.
        precision: Precision of the backbone; None if the command has no option for the precision.
        batch_size: Number of images in the batch; None while the model is moved to the device.
        size: Side length of the images in pixels.

    Raises:
        RunError: The device ran out of memory.
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
    """Return a message for a training run that ran out of memory.

    The message states the memory that ran out, the current sizes, and the smallest change that may help.
    """
    world = processes.world_size()
    own = max(1, config.batch_size // world)  # samples per step in this process
    batch = f"batch size {config.batch_size}" + (f" ({own} in each of {world} processes)" if world > 1 else "")
    ways = []
    # At least twice as many equal parts; --grad-accum-steps must divide the number of samples per process.
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
    """Return the name of the device memory, with the size if known."""
    if device.type == "cpu":
        return "memory"
    if device.type != "cuda":
        return "GPU memory"
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # CUDA does not respond to queries after a failure
        return "GPU memory"
    return f"GPU memory ({total / 1e9:.0f} GB, {free / 1e9:.1f} GB free)"


def _half(device: torch.device, precision: Precision) -> list[str]:
    """Return the flag for half precision on the device, unless half precision is already used."""
    if precision in ("bf16", "fp16"):
        return []
    half = "bf16"
    if device.type == "cuda":
        half = resolve_precision("auto", device)
    if half in ("bf16", "fp16"):
        return [f"--precision {half}"]
    return []
