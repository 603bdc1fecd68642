"""The two parts of a logit that λ weighs, and λ at test time: Figure 1 of the paper on a trained model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mlrec.models.csra import CSRA, SpatialAttention
from mlrec.models.heads import Head
from mlrec.utils.errors import ModelError


def residual_parts(head: Head, features: Tensor, temperatures: Sequence[float] = ()) -> Tensor:
    """(B, 1 + T, C): the head's logits without attention, and what λ = 1 adds to them at each temperature.

    Of CSRA the mean of its scores over locations and their attention-weighted mean. Of any other head its own logits
    and the same of its classifier's scores at each location; a gcn head pooled by the maximum keeps its own logits,
    too, as λ = 0 (the paper does not say how it treated it).

    Args:
        head: of the model.
        features: (B, d, h, w).
        temperatures: T of the attention, of all heads alike; left out, those of a CSRA head, and for other heads ∞,
            the maximum (Figure 1).

    Raises:
        ModelError: the head has no average for λ to add to.
    """
    if isinstance(head, SpatialAttention):
        raise ModelError("the spatial head has no average that λ could add to; use an average, gcn or csra head")
    if isinstance(head, CSRA):
        scores, scale = head.scores(features), head.scale
        average = scores.mean(-1).sum(1) * scale
        added = [attended(scores, t) for t in temperatures] or [head.attended(scores)]
        return torch.stack([average, *(part.sum(1) * scale for part in added)], dim=1)
    scores = head.location_scores(features)
    return torch.stack([head(features), *(attended(scores, t) for t in temperatures or (math.inf,))], dim=1)


def attended(scores: Tensor, temperature: float) -> Tensor:
    """Σ_j p_j s_j with p = softmax(T·s) over the last dimension of `scores`; T = ∞ is the maximum."""
    if math.isinf(temperature):
        return scores.amax(-1)
    return (torch.softmax(temperature * scores, dim=-1) * scores).sum(-1)
