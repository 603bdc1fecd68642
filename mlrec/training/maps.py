"""What a model sees where: logits, and the maps behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlrec.models.classifier import Classifier
from mlrec.models.csra import CSRA
from mlrec.training.devices import Precision, autocast
from mlrec.training.transforms import normalize


@dataclass(frozen=True, eq=False)
class Maps:
    """Of B images and C labels.

    Attributes:
        logits: (B, C).
        scores: (B, C, h, w), the classifier at each location, heads added.
        contributions: (B, C, h, w), what each location adds to the logit.
        attention: (B, H, C, h, w), that of each head; None for a head that has none.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    contributions: NDArray[np.float32]
    attention: NDArray[np.float32] | None


def read_maps(model: Classifier, images: Tensor, precision: Precision = "fp32") -> Maps:
    """Run a model on uint8 `images` (B, 3, S, S) that lie on its device."""
    with torch.inference_mode():
        with autocast(images.device, precision):
            features = model.backbone(normalize(images, model.preprocessing))
        features, head = features.to(torch.float32), model.head
        shape = (len(images), -1, *features.shape[-2:])
        return Maps(
            logits=head(features).cpu().numpy(),
            scores=head.location_scores(features).reshape(shape).cpu().numpy(),
            contributions=head.contributions(features).reshape(shape).cpu().numpy(),
            attention=head.attention(features).cpu().numpy() if isinstance(head, CSRA) else None,
        )


def read_logits(model: Classifier, images: Tensor, precision: Precision = "fp32") -> NDArray[np.float32]:
    """Logits (B, C) of uint8 `images` (B, 3, S, S), which are moved to the model's device."""
    images = images.to(next(model.parameters()).device)
    with torch.inference_mode():
        with autocast(images.device, precision):
            features = model.backbone(normalize(images, model.preprocessing))
        logits: NDArray[np.float32] = model.head(features.to(torch.float32)).cpu().numpy()
    return logits
