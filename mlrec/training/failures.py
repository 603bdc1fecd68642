"""Failures of the machine during training, told with what to do about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mlrec import processes
from mlrec.config import Config
from mlrec.errors import RunError, printable
from mlrec.training.devices import Precision


@contextmanager
def explained(config: Config, device: torch.device, precision: Precision) -> Iterator[None]:
    """Turn running out of memory, a batch too small, a compiler that fails and a lost process of the job into one line.

    Raises:
        RunError: instead of those.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RunError(_out_of_memory(config, device, precision)) from error
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise RunError(
            f"BatchNorm cannot train on one number a channel: at {config.img_size} px the last map is one location, "
            "and a batch holds one sample; use a larger --img-size or --batch-size, or fewer --accum"
        ) from error
    except RuntimeError as error:
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
        if "allocate memory" in text:
            raise RunError(_out_of_memory(config, device, precision)) from error
        if processes.world() > 1 and any(sign in text for sign in ("gloo", "NCCL", "Connection closed", "peer")):
            raise RunError(
                "another process of this job ended; its message says why (killed without one: lack of memory, likely)"
            ) from error
        raise


def _out_of_memory(config: Config, device: torch.device, precision: Precision) -> str:
    room, name = "", "memory"
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        room, name = f" ({total / 1e9:.0f} GB, {free / 1e9:.1f} GB free)", "GPU memory"
    smaller = max(1, config.batch_size // config.accum // 2)
    half = "" if precision in ("bf16", "fp16") else " or --precision bf16"
    return (
        f"out of {name} at batch size {config.batch_size} in {config.accum} parts, {config.img_size} px, "
        f"{precision}{room}; try --accum {config.batch_size // smaller} (parts of {smaller}){half}"
    )
