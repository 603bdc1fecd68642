"""A model ready for inference: `eval`, `predict`, `attend` and `--localize` run every batch through `InferenceModel`.

Kernels choose their blocks and their order of summation by the shape of a batch, most visibly in bf16. Equal scores
therefore need equal batches: the same images in the same order, one shape for all batches (the last one is filled up,
see `transforms.filled`), one memory layout, one preparation of the device.
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
from mlrec.training.devices import HALF, Precision, autocast, prepare_device, resolve_device, resolve_precision
from mlrec.training.failures import memory_explained
from mlrec.training.transforms import normalize

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class InferenceModel:
    """A model on its device, as it runs without gradients.

    Attributes:
        model: the classifier, in eval mode, its weights in channels-last memory.
        device: where it is.
        precision: of the backbone; the head is computed in float32, because logits rounded to bf16 have 256 values
            per octave and tie.
        backbone: normalized images (B, 3, S, S) → features (B, d, h, w); in half precision a copy of the backbone as
            it was when the model was opened, see `in_half`.
        batch_flag: the flag that sets the batch size, named when memory runs out.
    """

    model: Classifier
    device: torch.device
    precision: Precision
    backbone: Callable[[Tensor], Tensor]
    batch_flag: str

    def features(self, images: Tensor) -> Tensor:
        """Compute features (B, d, h, w), in the dtype the backbone computes in, of uint8 images (B, 3, S, S).

        Raises:
            RunError: memory runs out.
        """
        with self._memory(images), torch.no_grad(), autocast(self.device, self.precision):
            inputs = normalize(images.to(self.device, non_blocking=True), self.model.preprocessing)
            return self.backbone(inputs.contiguous(memory_format=torch.channels_last))

    def run(self, images: Tensor, read: Callable[[Tensor], T]) -> T:
        """Apply `read`, the head for example, to the float32 features of uint8 images (B, 3, S, S), without gradients.

        Raises:
            RunError: memory runs out.
        """
        with self._memory(images), torch.inference_mode():
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
    """Prepare the device, and move `model` to it in eval mode and channels-last memory.

    Args:
        model: the classifier; changed in place.
        device: see `resolve_device`.
        precision: see `resolve_precision`; with fp32 CUDA computes without TF32.
        batch_flag: the flag that sets the batch size.

    Raises:
        UsageError: a device or a precision that this machine does not have.
        RunError: the model does not fit into memory.
    """
    where = device if isinstance(device, torch.device) else resolve_device(device)
    chosen = resolve_precision(precision, where)
    prepare_device(where, chosen)
    with memory_explained(batch_flag, where, chosen):
        model = model.to(where, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return InferenceModel(model, where, chosen, _backbone(model, where, chosen), batch_flag)


def _backbone(model: Classifier, device: torch.device, precision: Precision) -> Callable[[Tensor], Tensor]:
    if precision in HALF and device.type in ("cpu", "cuda"):
        return in_half(model.backbone, model.preprocessing.size, device, HALF[precision])
    return model.backbone


def in_half(backbone: nn.Module, size: int, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A copy whose batch norms are folded into convolutions, and whose weights are cast once, not in every batch.

    A ViT on a CPU is left as it is: it has nothing to fold, and casting its weights gains nothing there.

    Args:
        backbone: of a model on `device`, in float32.
        size: side of the images.
        device: CPU or CUDA.
        dtype: what autocast computes in.
    """
    from mlrec.models.batchnorm_folding import CONVOLUTIONS, NORMS, folded

    if any(type(module) in NORMS for module in backbone.modules()):
        image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
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
