"""Separation of logits into a part that does not depend on λ and a part that is multiplied by λ.

The separation makes it possible to apply λ to a trained model at test time, as in Figure 1 of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlrec.models.classifier import check_has_maps
from mlrec.models.csra import CSRA, SpatialAttention
from mlrec.utils.errors import ModelError

if TYPE_CHECKING:
    from mlrec.models.classifier import Head


def residual_parts(head: Head, features: Tensor, temperatures: Sequence[float] = ()) -> Tensor:
    """Compute the part of the logits that does not depend on λ, and the part that is multiplied by λ.

    For CSRA, the first part is the mean of the scores over locations, and the second part is the attention-weighted
    mean of these scores. For other heads, the first part is the logits, and the second part is the attention-weighted
    mean of the classifier scores over locations. With λ = 0, a gcn head with max pooling returns its usual logits; the
    paper does not describe this case.

    Args:
        head: Head of a trained model.
        features: Features (B, d, h, w).
        temperatures: T attention temperatures, each of which is used for all attention heads [default: the head's own
            temperatures for CSRA; otherwise ∞, which is the maximum, as in Figure 1].

    Returns:
        Tensor (B, 1 + T, C) with the logits at λ = 0 and, for each temperature, the term that is added at λ = 1.

    Raises:
        ModelError: The head has no scores at locations, or is the spatial head, which has no average over locations.
    """
    check_has_maps(head)
    if isinstance(head, SpatialAttention):
        raise ModelError(
            "λ cannot be applied to the spatial head, which has no average over locations; use an average, gcn or csra "
            "head"
        )
    if isinstance(head, CSRA):
        scores, scale = head.scores(features), head.scale
        average = scores.mean(-1).sum(1) * scale
        added = [attended_scores(scores, t) for t in temperatures] or [head.attended_scores(scores)]
        return torch.stack([average, *(part.sum(1) * scale for part in added)], dim=1)
    scores = head.location_scores(features)
    added = [attended_scores(scores, t) for t in temperatures or (math.inf,)]
    return torch.stack([head(features), *added], dim=1)


def attended_scores(scores: Tensor, temperature: float) -> Tensor:
    """Compute Σ_j p_j s_j with p = softmax(T·s) over the last dimension of `scores`.

    For T = ∞, the result is the maximum.
    """
    if math.isinf(temperature):
        return scores.amax(-1)
    return (torch.softmax(temperature * scores, dim=-1) * scores).sum(-1)
