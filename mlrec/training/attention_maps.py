"""Attention maps, contribution maps and logits of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlrec.models.classifier import check_has_maps
from mlrec.models.csra import CSRA
from mlrec.models.query_heads import AttentionPooling, MLDecoder, Query2Label

if TYPE_CHECKING:
    from mlrec.models.classifier import Head


@dataclass(frozen=True, eq=False)
class HeadMaps:
    """Logits and attention maps for B images and C labels.

    Attributes:
        logits: Array (B, C) with the logit of each image and label.
        scores: Classifier scores (B, C, h, w) at each location, summed over heads.
        contributions: Contributions (B, C, h, w) of each location to the logit.
        attention: Attention maps (B, H, C, h, w) of a CSRA or spatial head with H attention heads; None for others.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    contributions: NDArray[np.float32]
    attention: NDArray[np.float32] | None


def read_maps(head: Head, features: Tensor) -> HeadMaps:
    """Compute the logits and maps of a head from `features` (B, d, h, w), which are on the device of the head.

    Raises:
        ModelError: The head does not provide maps, such as a head in `query_heads`.
    """
    check_has_maps(head)
    features = features.to(torch.float32)
    shape = (len(features), -1, *features.shape[-2:])
    with torch.inference_mode():
        return HeadMaps(
            logits=head(features).cpu().numpy(),
            scores=head.location_scores(features).reshape(shape).cpu().numpy(),
            contributions=head.contributions(features).reshape(shape).cpu().numpy(),
            attention=head.attention(features).cpu().numpy() if isinstance(head, CSRA) else None,
        )


def read_shown_maps(
    head: Head, features: Tensor, temperature_head: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute the logits (B, C) and heat maps (B, C, h, w) of a head from `features` (B, d, h, w).

    The maps are either the contributions to the logit, or the attention of one of the attention heads of CSRA. For a
    head in `query_heads`, whose logit is not a sum over locations, the maps are the attention of each label's query.

    Args:
        head: Head that computes the logits.
        features: Features on the device of the head.
        temperature_head: Index of the attention head whose attention is returned instead of the contributions; only
            used for CSRA and spatial heads. None returns the contributions.

    Raises:
        ModelError: The head is from another package and does not provide maps.
    """
    if isinstance(head, AttentionPooling | MLDecoder | Query2Label):
        features = features.to(torch.float32)
        with torch.inference_mode():
            attention = head.label_attention(features).reshape(len(features), -1, *features.shape[-2:])
            return head(features).cpu().numpy(), attention.cpu().numpy()
    maps = read_maps(head, features)
    if temperature_head is not None and maps.attention is not None:
        return maps.logits, maps.attention[:, temperature_head]
    return maps.logits, maps.contributions
