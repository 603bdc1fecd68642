"""Setup of the device, precision and CPU threads, and one-line messages for out-of-memory and similar errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

from mlrec.config import Config
from mlrec.utils import processes
from mlrec.utils.errors import RunError, UsageError, counted, is_out_of_memory
from mlrec.utils.processes import keep_freed_memory, local_world

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
HALF: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
EVAL_BATCH = 64  # evaluation batch size on CUDA
EVAL_OVER_TRAINING = 8  # maximum ratio of the evaluation batch size to the training batch size


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device with this name; "auto" selects the best available device.

    "auto" selects CUDA if available, otherwise MPS if available, otherwise the CPU. Under torchrun, "cuda" is the GPU
    of this process.

    Raises:
        UsageError: The device is unknown, is not available on this machine, is a GPU without kernels in this torch
            build, or cannot be shared by the processes on this machine.
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
        raise UsageError(f"'{name}' is not a device; use auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(
                f"device {name}: CUDA is not available on this machine or in this torch build; use --device cpu"
            )
        device = torch.device("cuda", _own_index() if device.index is None else _named_index(device.index))
        _check_kernels(device)
        return device
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device mps is not available on this machine; use --device cpu")
    if device.type not in ("cpu", "mps"):
        raise UsageError(f"device '{name}' is not supported; use auto, cpu, cuda, cuda:N or mps")
    return device


def _own_index() -> int:
    """Return the index of the GPU for this process.

    GPUs are assigned to the processes on a machine in order.
    """
    index, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if index < count:
        return index
    # Under SLURM, each task may see only its own GPU, with index 0. All torchrun processes see the same GPUs.
    # `distributed.joined` checks that no two processes share one.
    if count == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    cause = ""
    if visible is not None:
        cause = f" (CUDA_VISIBLE_DEVICES={visible})"
    raise UsageError(
        f"{local_world()} processes are running on this machine, but only {counted(count, 'GPU is', 'GPUs are')} "
        f"visible{cause}; "
        f"use torchrun --nproc-per-node {count}"
    )


def _named_index(index: int) -> int:
    count = torch.cuda.device_count()
    if local_world() > 1:
        raise UsageError(
            f"device cuda:{index}: all {local_world()} processes on this machine would use the same GPU; "
            "use --device cuda, and set CUDA_VISIBLE_DEVICES to select GPUs"
        )
    if index >= count:
        raise UsageError(
            f"device cuda:{index}: this machine has {counted(count, 'GPU')}, numbered from 0; choose a smaller number"
        )
    return index


def _check_kernels(device: torch.device) -> None:
    """Check that this torch build has kernels for the GPU.

    Without kernels, the first operation would fail with an obscure message. A kernel for X.Y runs on X.Z with Z >= Y.
    For a GPU that is newer than all kernels, a "compute" version is compiled.

    Raises:
        UsageError: There are no kernels for the GPU.
    """
    built = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name) for name in torch.cuda.get_arch_list()]
    versions = [(match[1], int(match[2]), int(match[3])) for match in built if match is not None]
    if not versions:  # ROCm
        return
    major, minor = torch.cuda.get_device_capability(device)
    runs = [kind == "sm" and first == major and second <= minor for kind, first, second in versions]
    compiles = [kind == "compute" and (first, second) <= (major, minor) for kind, first, second in versions]
    if not any(runs + compiles):
        raise UsageError(
            f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}, but this torch build "
            f"({torch.__version__}) has kernels only for {', '.join(f'{x}.{y}' for _, x, y in versions)}; install a "
            "torch build for this GPU (see pytorch.org), or use --device cpu"
        )


def resolve_precision(name: str, device: torch.device) -> Precision:
    """Return the precision for the value of `--precision`; "auto" selects one for the device.

    "auto" is bf16 on CUDA with compute capability 8.0 or higher, fp16 with 7.x, and otherwise fp32.
    `torch.cuda.is_bf16_supported()` is not used, because it also returns True for older GPUs, which emulate bf16
    slowly.

    Raises:
        UsageError: The precision is unknown, or the device does not support the precision.
    """
    if name == "auto":
        major = 0
        if device.type == "cuda":
            major = torch.cuda.get_device_capability(device)[0]
        if major >= 8:
            return "bf16"
        if major == 7:
            return "fp16"
        return "fp32"
    if name not in ("fp32", "tf32", "bf16", "fp16"):
        raise UsageError(f"'{name}' is not a precision; use auto, fp32, tf32, bf16 or fp16")
    if name in ("tf32", "fp16") and device.type != "cuda":
        raise UsageError(f"precision {name} requires CUDA; use bf16 or fp32 on {device.type}")
    return name  # type: ignore[return-value]


def prepare_device(device: torch.device, precision: Precision, threads: int | None = None) -> None:
    """Configure the GPU, TF32, CPU threads and memory reuse for the whole process.

    On CUDA, TF32 is disabled for fp32 and enabled for other precisions. In half precision, TF32 affects only the head,
    because the head computes in float32. Features in bf16 or fp16 are exact in TF32, so only the weights of the head
    are rounded (to 11 bits). Products in TF32 are summed in float32.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)  # pinned memory, streams and third-party code use the current device
        _allow_tf32(precision != "fp32")
    if device.type == "cpu":
        keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)


def _allow_tf32(allowed: bool) -> None:
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


@contextmanager
def exact_float32() -> Iterator[None]:
    """Context manager that disables TF32 for float32 matrix products and convolutions."""
    before = torch.backends.cudnn.allow_tf32
    _allow_tf32(False)
    try:
        yield
    finally:
        _allow_tf32(before)


@contextmanager
def repeatable_kernels() -> Iterator[None]:
    """Context manager that makes cuDNN choose kernels by tensor shape instead of by measured time.

    Scores computed in the block are reproducible. With `cudnn.benchmark`, processes may choose different kernels, and
    the scores of `eval` and `predict`, for example, may differ in the last bits. `deterministic` is also required,
    because it is part of cuDNN's cache key; otherwise, a kernel that was chosen by measured time in training would be
    reused.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


def memory_format(device: torch.device, *, channels_last: bool = True) -> torch.memory_format:
    """Return the memory format for images and convolutions; it is always contiguous on MPS.

    On MPS, the backward pass of BatchNorm fails or computes wrong gradients without an error if the memory format is
    channels-last (PyTorch issue 175189, not fixed in the versions that mlrec supports).
    """
    if channels_last and device.type != "mps":
        return torch.channels_last
    return torch.contiguous_format


def default_eval_batch(batch_size: int, device: torch.device) -> int:
    """Return the default evaluation batch size: 64 on CUDA, otherwise the training batch size.

    On CUDA, the evaluation batch size is limited to 8 times the training batch size; evaluation requires less memory
    because activations are not stored. The batch size does not depend on the free memory, because the last bits of the
    scores depend on the batch size.

    Args:
        batch_size: Training batch size.
        device: Device of the model.

    Example:
        >>> [default_eval_batch(size, torch.device("cuda")) for size in (2, 16, 256)]
        [16, 64, 64]
        >>> default_eval_batch(16, torch.device("cpu"))
        16
    """
    if device.type == "cuda":
        return min(EVAL_BATCH, EVAL_OVER_TRAINING * batch_size)
    return batch_size


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the autocast context for a forward pass in half precision.

    For other precisions, a null context is returned.
    """
    if precision not in HALF:
        return nullcontext()
    return torch.autocast(device.type, dtype=HALF[precision])


@contextmanager
def explained(config: Config, device: torch.device, precision: Precision) -> Iterator[None]:
    """Context manager that converts failures of a training run, such as a lack of memory, to one-line errors.

    Errors are converted if memory runs out, a batch is too small, the compiler fails, an operation is not
    deterministic, or another process exits.

    Raises:
        RunError: Memory ran out, a batch is too small, the compiler failed, an operation is not deterministic, or
            another process exited.
    """
    try:
        yield
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise RunError(
            f"BatchNorm cannot train on one value per channel: at {config.img_size} px, the feature map has one "
            "location, and a batch has one sample; increase --img-size or --batch-size, or reduce --grad-accum-steps"
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
        batch_flag: Command-line flag that sets the batch size.
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
