"""What a model sees where: logits, and the maps behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlrec.models.csra import CSRA
from mlrec.models.heads import Head


@dataclass(frozen=True, eq=False)
class HeadMaps:
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


def read_maps(head: Head, features: Tensor) -> HeadMaps:
    """Run a head on `features` (B, d, h, w) that lie on its device."""
    features = features.to(torch.float32)
    shape = (len(features), -1, *features.shape[-2:])
    with torch.inference_mode():
        return HeadMaps(
            logits=head(features).cpu().numpy(),
            scores=head.location_scores(features).reshape(shape).cpu().numpy(),
            contributions=head.contributions(features).reshape(shape).cpu().numpy(),
            attention=head.attention(features).cpu().numpy() if isinstance(head, CSRA) else None,
        )
