"""A model ready for inference: `eval`, `predict`, `attend` and `--localize` run every batch through `InferenceModel`.

Kernels choose their blocks and their order of summation by the batch shape, which matters most in bf16. Bit-exact
scores therefore need equal batches: the same images in the same order, one batch shape (the last batch is padded, see
`transforms.filled`), one memory layout, and the same device settings.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from mlrec.models.classifier import Classifier
from mlrec.training.devices import (
    HALF,
    Precision,
    autocast,
    exact_float32,
    memory_format,
    prepare_device,
    repeatable_kernels,
    resolve_device,
    resolve_precision,
)
from mlrec.training.failures import memory_explained
from mlrec.training.transforms import normalize

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class InferenceModel:
    """A model on its device, for inference.

    Attributes:
        model: Classifier in eval mode, in channels-last memory format except on MPS.
        device: Device of the model.
        precision: Precision of the backbone. The head runs in float32, because logits rounded to bf16 have 256 values
            per octave, which would cause many ties.
        backbone: Normalized images (B, 3, S, S) → features (B, d, h, w); in half precision a copy made when the model
            was opened, see `in_half`.
        batch_flag: Flag that sets the batch size, named when memory runs out.
    """

    model: Classifier
    device: torch.device
    precision: Precision
    backbone: Callable[[Tensor], Tensor]
    batch_flag: str

    def features(self, images: Tensor) -> Tensor:
        """Compute features (B, d, h, w), in the dtype the backbone computes in, of uint8 images (B, 3, S, S).

        Raises:
            RunError: Out of memory.
        """
        with self._memory(images), torch.no_grad(), repeatable_kernels(), autocast(self.device, self.precision):
            inputs = normalize(images.to(self.device, non_blocking=True), self.model.preprocessing)
            return self.backbone(inputs.contiguous(memory_format=memory_format(self.device)))

    def run(self, images: Tensor, read: Callable[[Tensor], T]) -> T:
        """Apply `read`, the head for example, to the float32 features of uint8 images (B, 3, S, S), without gradients.

        Raises:
            RunError: Out of memory.
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
) -> InferenceModel:
    """Prepare the device, and move `model` to it in eval mode and the memory format of the device.

    Args:
        model: Classifier; changed in place.
        device: Device, see `resolve_device`.
        precision: Precision of the backbone, see `resolve_precision`; with fp32, CUDA computes without TF32.
        batch_flag: Flag that sets the batch size, named when memory runs out.

    Raises:
        UsageError: This machine lacks the device or the precision.
        RunError: The model does not fit into memory.
    """
    if not isinstance(device, torch.device):
        device = resolve_device(device)
    resolved = resolve_precision(precision, device)
    prepare_device(device, resolved)
    with memory_explained(batch_flag, device, resolved):
        model = model.to(device, memory_format=memory_format(device)).eval()  # type: ignore[call-overload]
        return InferenceModel(model, device, resolved, _backbone(model, device, resolved), batch_flag)


def _backbone(model: Classifier, device: torch.device, precision: Precision) -> Callable[[Tensor], Tensor]:
    if precision in HALF and device.type in ("cpu", "cuda"):
        return in_half(model.backbone, model.preprocessing.size, device, HALF[precision])
    return model.backbone


def in_half(backbone: nn.Module, size: int, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Copy a backbone, with BatchNorm folded into convolutions, and weights cast once instead of in every batch.

    A ViT on a CPU is returned unchanged: it has nothing to fold, and casting its weights gains nothing there.

    Args:
        backbone: Backbone of a model on `device`, in float32.
        size: Side of the images in pixels.
        device: CPU or CUDA device.
        dtype: Dtype of autocast.
    """
    from mlrec.models.batchnorm_folding import CONVOLUTIONS, NORMS, folded

    if any(type(module) in NORMS for module in backbone.modules()):
        image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        with exact_float32(), repeatable_kernels():  # folding is checked to float32
            backbone = folded(backbone, image)
    elif device.type == "cpu":
        return backbone
    else:
        backbone = copy.deepcopy(backbone)
    for module in backbone.modules():
        if type(module) in (*CONVOLUTIONS, nn.Linear):
            module.to(dtype)
        if device.type == "cpu" and hasattr(module, "inplace"):  # slow in bf16 there
            setattr(module, "inplace", False)  # noqa: B010 - mypy takes a module's attributes for tensors
    return backbone
