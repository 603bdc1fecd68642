"""The trunk as it is run where nothing is learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mlrec.models.classifier import Classifier
from mlrec.models.folding import CONVOLUTIONS, NORMS, folded
from mlrec.training.devices import Precision, autocast
from mlrec.training.transforms import normalize


def features_of(model: Classifier, device: torch.device, precision: Precision) -> Callable[[Tensor], Tensor]:
    """What extracts features (B, d, h, w) from images (B, 3, H, W) in 0-255; images and `model` lie on `device`.

    In bf16 on a CPU it is a copy of the trunk as it stands now; docs/performance.md has what that is worth.
    """
    trunk: nn.Module = model.backbone
    if device.type == "cpu" and precision == "bf16" and any(type(module) in NORMS for module in trunk.modules()):
        size = model.preprocessing.size
        trunk = _in_bf16(folded(trunk, torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))))

    def features(images: Tensor) -> Tensor:
        with torch.no_grad(), autocast(device, precision):
            made: Tensor = trunk(normalize(images, model.preprocessing))
        return made

    return features


def _in_bf16(trunk: nn.Module) -> nn.Module:
    """Its weights in bf16, as autocast would make them for every batch. Nothing overwrites its input: slow in bf16."""
    for module in trunk.modules():
        if type(module) in (*CONVOLUTIONS, nn.Linear):
            module.to(torch.bfloat16)
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010 - mypy takes a module's attributes for tensors
    return trunk
