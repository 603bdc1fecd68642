"""The trunk as it is run where nothing is learned."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mlrec.models.classifier import Classifier
from mlrec.models.folding import CONVOLUTIONS, NORMS, folded
from mlrec.training.devices import HALF, Precision, autocast
from mlrec.training.transforms import normalize


def features_of(model: Classifier, device: torch.device, precision: Precision) -> Callable[[Tensor], Tensor]:
    """What extracts features (B, d, h, w) from images (B, 3, H, W) in 0-255; images and `model` lie on `device`.

    In half precision on a CPU or on CUDA it is a copy of the trunk as it stands now, see `in_half`; docs/performance.md
    has what that is worth on a CPU.
    """
    trunk: nn.Module = model.backbone
    if precision in HALF and device.type in ("cpu", "cuda"):
        trunk = in_half(trunk, model.preprocessing.size, device, HALF[precision])

    def features(images: Tensor) -> Tensor:
        with torch.no_grad(), autocast(device, precision):
            made: Tensor = trunk(normalize(images, model.preprocessing))
        return made

    return features


def in_half(trunk: nn.Module, size: int, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A copy whose batch norms are folded into convolutions, and whose weights are cast once, not in every batch.

    A ViT on a CPU is left as it is: it has nothing to fold, and casting its weights gains nothing there.

    Args:
        trunk: of a model on `device`, in float32.
        size: side of the images.
        device: CPU or CUDA.
        dtype: what autocast computes in.
    """
    if any(type(module) in NORMS for module in trunk.modules()):
        image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        trunk = folded(trunk, image)
    elif device.type == "cpu":
        return trunk
    else:
        trunk = copy.deepcopy(trunk)
    for module in trunk.modules():
        if type(module) in (*CONVOLUTIONS, nn.Linear):
            module.to(dtype)
        if device.type == "cpu" and hasattr(module, "inplace"):  # slow in bf16 there
            setattr(module, "inplace", False)  # noqa: B010 - mypy takes a module's attributes for tensors
    return trunk
