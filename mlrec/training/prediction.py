"""Inference: models on a device, and the logits of all samples in a split.

`eval`, `predict`, `attend` and `--localize` run all batches through `InferenceModel`. The block sizes and summation
order of kernels depend on the batch shape. Rounding differences between batch shapes are largest in bf16. Bit-exact
scores therefore require the same images in the same order, the same batch shape, the same memory layout, and the same
device settings. The last batch is padded to the same shape, see `transforms.filled`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import Classifier
from mlrec.predictions import Predictions
from mlrec.training.dataloader import eval_batches
from mlrec.training.devices import (
    HALF,
    Precision,
    autocast,
    exact_float32,
    memory_explained,
    memory_format,
    prepare_device,
    repeatable_kernels,
    resolve_device,
    resolve_precision,
)
from mlrec.training.transforms import Decode, filled, normalize
from mlrec.utils.errors import MlrecError, counted
from mlrec.utils.progress import SILENT, Progress

if TYPE_CHECKING:
    from mlrec.training.features import Features


T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class InferenceModel:
    """Model on a device, prepared for inference.

    Attributes:
        model: Classifier in eval mode, in channels-last memory format except on MPS.
        device: Device of the model.
        precision: Precision of the backbone. The head runs in float32. Logits in bf16 would have only 8 significant
            bits, so many samples would have equal scores.
        backbone: Module that computes features (B, d, h, w) from normalized images (B, 3, S, S). In half precision, the
            module is returned by `in_half`, except on MPS.
        batch_flag: Command-line flag that sets the batch size, used in out-of-memory messages.
    """

    model: Classifier
    device: torch.device
    precision: Precision
    backbone: Callable[[Tensor], Tensor]
    batch_flag: str

    def features(self, images: Tensor) -> Tensor:
        """Compute the features (B, d, h, w) of uint8 images (B, 3, S, S).

        The features have the dtype in which the backbone computes.

        Raises:
            RunError: The device ran out of memory.
        """
        with self._memory(images), torch.no_grad(), repeatable_kernels(), autocast(self.device, self.precision):
            inputs = normalize(images.to(self.device, non_blocking=True), self.model.preprocessing)
            return self.backbone(inputs.contiguous(memory_format=memory_format(self.device)))

    def run(self, images: Tensor, read: Callable[[Tensor], T]) -> T:
        """Apply a function `read`, such as the head, to the float32 features of uint8 images (B, 3, S, S).

        No gradients are computed.

        Raises:
            RunError: The device ran out of memory.
        """
        with self._memory(images), torch.inference_mode(), repeatable_kernels():
            return read(self.features(images).to(torch.float32))

    def _memory(self, images: Tensor) -> AbstractContextManager[None]:
        return memory_explained(
            self.batch_flag, self.device, self.precision, batch_size=len(images), size=images.shape[-1]
        )


def open_on(
    model: Classifier,
    device: torch.device | str = "auto",
    precision: str = "auto",
    *,
    batch_flag: str = "--batch-size",
    keep_mode: bool = False,
) -> InferenceModel:
    """Prepare the device and the model for inference, and move the model to the device.

    Args:
        model: Classifier, which is changed in place.
        device: Device, see `resolve_device`.
        precision: Precision of the backbone, see `resolve_precision`; with fp32, TF32 is not used on CUDA.
        batch_flag: Command-line flag that sets the batch size, used in out-of-memory messages.
        keep_mode: Whether a model in training mode stays in training mode. A copy in eval mode that shares its weights
            is then used.

    Raises:
        UsageError: This machine does not support the device or precision.
        RunError: The model does not fit into memory.
    """
    if not isinstance(device, torch.device):
        device = resolve_device(device)
    resolved = resolve_precision(precision, device)
    prepare_device(device, resolved)
    with memory_explained(batch_flag, device, resolved):
        model = model.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
        model = _evaluated_copy(model) if keep_mode else model.eval()
        return InferenceModel(model, device, resolved, _backbone(model, device, resolved), batch_flag)


def _evaluated_copy(model: Classifier) -> Classifier:
    """Return a copy in eval mode that shares the weights of the model; a model in eval mode is returned unchanged."""
    if not any(module.training for module in model.modules()):
        return model
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared).eval()


def _backbone(model: Classifier, device: torch.device, precision: Precision) -> Callable[[Tensor], Tensor]:
    if precision in HALF and device.type in ("cpu", "cuda"):
        return in_half(model.backbone, model.preprocessing.size, device, HALF[precision])
    return model.backbone


def in_half(backbone: nn.Module, size: int, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a backbone for fast inference in half precision.

    BatchNorm is folded into convolutions, and weights are cast only once. On a CPU, a backbone without BatchNorm, such
    as a ViT, is returned unchanged, because casting its weights only once does not make it faster.

    Args:
        backbone: Backbone of a model on `device`, in float32.
        size: Side length of the images in pixels.
        device: CPU or CUDA device.
        dtype: Dtype of autocast.
    """
    from mlrec.models.batchnorm_folding import CONVOLUTIONS, NORMS, folded

    if any(type(module) in NORMS for module in backbone.modules()):
        image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        with exact_float32(), repeatable_kernels():  # folding is verified with float32 accuracy
            backbone = folded(backbone, image)
    elif device.type == "cpu":
        return backbone
    else:
        backbone = copy.deepcopy(backbone)
    for module in backbone.modules():
        if type(module) in (*CONVOLUTIONS, nn.Linear):
            module.to(dtype)
        if device.type == "cpu" and hasattr(module, "inplace"):  # in-place operations are slow in bf16 on the CPU
            setattr(module, "inplace", False)  # noqa: B010 - mypy assumes that module attributes are tensors
    return backbone


@dataclass(frozen=True)
class InferenceOptions:
    """Options for running a model over a split.

    Attributes:
        batch_size: Batch size per process.
        workers: Number of dataloader workers; None means the default for this machine.
        device: Device, see `resolve_device`.
        precision: Precision of the backbone, see `resolve_precision`.
        decode: Image decoder.
        rank: Rank of this process.
        world: Number of processes.
        batch_flag: Command-line flag that sets the batch size, used in out-of-memory messages.
        mirror: Whether to mirror the images horizontally.
    """

    batch_size: int = 16
    workers: int | None = None
    device: str = "auto"
    precision: str = "auto"
    decode: Decode = "fast"
    rank: int = 0
    world: int = 1
    batch_flag: str = "--batch-size"
    mirror: bool = False


DEFAULT = InferenceOptions()


def predict(
    model: Classifier, manifest: Manifest, options: InferenceOptions = DEFAULT, progress: Progress = SILENT
) -> Predictions:
    """Compute the float32 logits of a split, in the order of the manifest.

    The model is moved to the device and remains in eval mode. With multiple processes, each process computes a part of
    the batches, and all processes receive the complete result. The result is bit-identical for any number of processes.

    Args:
        model: Classifier with the labels of the manifest, in the same order.
        manifest: Manifest of the split.
        options: Batch size, device and other options.
        progress: Progress display.

    Raises:
        DataError: An image cannot be read; the message states the file.
        MlrecError: A logit is NaN or infinite; the message states the sample.
        RunError: The device ran out of memory; the message mentions `options.batch_flag`.
    """
    logits = read_features(model, manifest, lambda features: model.head(features)[:, None], 1, options, progress)
    return as_predictions(logits[:, 0], manifest)


def predict_parts(
    model: Classifier,
    manifest: Manifest,
    options: InferenceOptions = DEFAULT,
    progress: Progress = SILENT,
    *,
    temperatures: Sequence[float] = (),
) -> tuple[Predictions, tuple[NDArray[np.float32], ...]]:
    """Compute the logits at λ = 0 and the terms that λ multiplies, in a single pass over the images.

    There is one term per temperature, or a single term without temperatures: the difference between the logits at λ = 1
    and at λ = 0.

    Args:
        model: Classifier whose head has scores at locations, except the spatial head, which has no average over
            locations.
        manifest: Manifest of the split.
        options: Batch size, device and other options.
        progress: Progress display.
        temperatures: Attention temperatures, see `residual_parts`.

    Raises:
        MlrecError: λ cannot be applied to the head, or `predict` fails.
    """
    from mlrec.models.residual import residual_parts

    parts = read_features(
        model,
        manifest,
        lambda features: residual_parts(model.head, features, temperatures),
        1 + max(1, len(temperatures)),
        options,
        progress,
    )
    average, *added = (as_predictions(part, manifest) for part in parts.unbind(1))
    return average, tuple(part.logits for part in added)


def read_features(
    model: Classifier,
    manifest: Manifest,
    read: Callable[[Tensor], Tensor],
    number: int,
    options: InferenceOptions = DEFAULT,
    progress: Progress = SILENT,
) -> Tensor:
    """Apply `read` to the features of all batches in a split.

    For a batch, `read` returns a tensor (B, `number`, C). For the complete split, a tensor (N, `number`, C) is
    returned.
    """
    opened = open_on(model, options.device, options.precision, batch_flag=options.batch_flag)
    batches = eval_batches(
        manifest,
        model.preprocessing,
        batch_size=options.batch_size,
        workers=options.workers,
        decode=options.decode,
        rank=options.rank,
        world=options.world,
        device=opened.device,
    )
    # Row N receives the copies that pad the last batch (sample -1). Each other row is written by one process and is 0
    # in all other processes, so that the sum over processes is the complete result.
    outputs = torch.zeros((len(manifest) + 1, number, len(manifest.labels)), device=opened.device)
    total = math.ceil(len(manifest) / options.world)
    with torch.inference_mode(), progress.task(f"scoring {manifest.split}", total) as step:
        for batch in batches:
            inputs = batch.to(opened.device)
            images = inputs.images
            if options.mirror:
                images = inputs.images.flip(-1)
            output = opened.run(images, read)
            outputs[inputs.samples] = output + 0.0  # converts -0 to 0, like a sum over processes
            step(int((batch.samples >= 0).sum()))
        if options.world > 1:
            torch.distributed.all_reduce(outputs)
    return outputs[:-1]


def predict_features(model: Classifier, features: Features, *, batch_size: int = 16) -> Predictions:
    """Compute logits like `predict`, from features without augmentation.

    The logits are bit-identical to those of `predict` if the features were computed with the same batch size.

    Raises:
        MlrecError: A logit is NaN or infinite; the message states the sample.
    """
    device = next(model.head.parameters()).device
    model.eval()
    values, size = features.values[0], min(batch_size, len(features.manifest))
    logits = []
    with torch.inference_mode(), repeatable_kernels():
        for part in torch.split(values, batch_size):
            # The shape, dtype and memory format are those of the backbone output in `predict`, so that logits are
            # bit-identical.
            inputs = filled(part, size).to(device, torch.float32)
            logits.append(model.head(inputs.contiguous(memory_format=memory_format(device)))[: len(part)])
    return as_predictions(torch.cat(logits), features.manifest)


def as_predictions(logits: Tensor, manifest: Manifest) -> Predictions:
    """Convert the logits (N, C) for a split to `Predictions`.

    An MlrecError is raised if a logit is NaN or infinite.
    """
    values = logits.cpu()
    broken = (~torch.isfinite(values)).nonzero()
    if len(broken):
        sample, label = (int(k) for k in broken[0])
        raise MlrecError(
            f"{counted(len(broken), 'logit is', 'logits are')} NaN or infinite (first: sample "
            f"'{manifest.sample_ids[sample]}', label '{manifest.labels[label]}'), because the weights are damaged or "
            "training diverged; use a different checkpoint"
        )
    return Predictions(manifest.labels, manifest.sample_ids, values.numpy(), manifest.targets, manifest.digest)
