"""The two parts of a logit, with and without λ: λ at test time, Figure 1 of the paper, on a trained model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlrec.models.csra import CSRA, SpatialAttention
from mlrec.models.heads import check_has_maps
from mlrec.utils.errors import ModelError

if TYPE_CHECKING:
    from mlrec.models.heads import Head


def residual_parts(head: Head, features: Tensor, temperatures: Sequence[float] = ()) -> Tensor:
    """Compute the part of the logits that λ does not weigh, and the part that λ weighs.

    Of CSRA these are the mean of its scores over locations and their attention-weighted mean. Of other heads they are
    their own logits and the attention-weighted mean of their classifier's scores at each location; a gcn head that is
    pooled by the maximum keeps its own logits as λ = 0 (the paper does not describe how it treated it).

    Args:
        head: Head of a trained model.
        features: Features (B, d, h, w).
        temperatures: T of the attention, the same for all heads [default: those of a CSRA head; for other heads ∞,
            the maximum of Figure 1].

    Returns:
        (B, 1 + T, C): logits at λ = 0, and for each temperature what λ = 1 adds to them.

    Raises:
        ModelError: The head has no average to which λ could add.
    """
    check_has_maps(head)
    if isinstance(head, SpatialAttention):
        raise ModelError("the spatial head has no average that λ could add to; use an average, gcn or csra head")
    if isinstance(head, CSRA):
        scores, scale = head.scores(features), head.scale
        average = scores.mean(-1).sum(1) * scale
        added = [attended_scores(scores, t) for t in temperatures] or [head.attended_scores(scores)]
        return torch.stack([average, *(part.sum(1) * scale for part in added)], dim=1)
    scores = head.location_scores(features)
    added = [attended_scores(scores, t) for t in temperatures or (math.inf,)]
    return torch.stack([head(features), *added], dim=1)


def attended_scores(scores: Tensor, temperature: float) -> Tensor:
    """Compute Σ_j p_j s_j with p = softmax(T·s) over the last dimension of `scores`; for T = ∞ the maximum."""
    if math.isinf(temperature):
        return scores.amax(-1)
    return (torch.softmax(temperature * scores, dim=-1) * scores).sum(-1)
