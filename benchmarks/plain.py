"""The reference that the benchmarks measure against, written anew from a description of the paper's code.

PIL and torchvision's transforms v1 on single images, collated as floats; contiguous memory; float32, on CUDA with
cuDNN's default TF32 convolutions; one convolution a head.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import transforms

from mlrec.datasets.manifest import POSITIVE, Manifest
from mlrec.models.classifier import Classifier
from mlrec.models.csra import CSRA
from mlrec.models.preprocessing import Preprocessing


class PlainImages(Dataset[tuple[Tensor, Tensor]]):
    """Files as a plain script reads them: augmented as in the paper, or squashed for evaluation."""

    def __init__(self, manifest: Manifest, given: Preprocessing, *, augmented: bool) -> None:
        self.manifest, how = manifest, transforms.InterpolationMode(given.interpolation)
        views = [transforms.Resize((given.size, given.size), how)]
        if augmented:
            crop = transforms.RandomResizedCrop(given.size, scale=(0.7, 1.0), interpolation=how)
            views = [transforms.RandomHorizontalFlip(), crop]
        self.transform = transforms.Compose(
            [*views, transforms.ToTensor(), transforms.Normalize(given.mean, given.std)]
        )

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture = Image.open(self.manifest.path_of(index)).convert("RGB")
        return self.transform(picture), torch.from_numpy((self.manifest.targets[index] == POSITIVE).astype(np.float32))


class PlainHead(nn.Module):
    """One residual attention of the paper: 1×1 convolution, normalised classifier, softmax or maximum, residual."""

    def __init__(self, weight: Tensor, temperature: float, lam: float) -> None:
        super().__init__()
        labels, channels = weight.shape
        self.convolution = nn.Conv2d(channels, labels, 1, bias=False)
        self.convolution.weight.data.copy_(weight[..., None, None])
        self.temperature, self.lam = temperature, lam

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, C) of `features` (B, d, h, w)."""
        lengths = self.convolution.weight.norm(dim=1, keepdim=True).transpose(0, 1)
        scores = (self.convolution(features) / lengths).flatten(2)
        if math.isinf(self.temperature):
            attended = scores.max(dim=2).values
        else:
            attended = (torch.softmax(self.temperature * scores, dim=2) * scores).sum(dim=2)
        return scores.mean(dim=2) + self.lam * attended


class PlainHeads(nn.Module):
    """The heads of `stacked`, one after the other, their logits added."""

    def __init__(self, stacked: CSRA) -> None:
        super().__init__()
        pairs = zip(stacked.weight.detach(), stacked.temperatures, strict=True)
        self.heads = nn.ModuleList(PlainHead(weight, temperature, stacked.lam) for weight, temperature in pairs)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, C) of `features` (B, d, h, w)."""
        return torch.stack([head(features) for head in self.heads]).sum(0)


def plain_model(model: Classifier) -> Classifier:
    """`model` with its CSRA as separate heads of the same weights."""
    assert isinstance(model.head, CSRA)
    model.head = PlainHeads(model.head)  # type: ignore[assignment]
    return model
