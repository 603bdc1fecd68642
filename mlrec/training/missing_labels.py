"""Losses for annotations with missing positives.

`context.unlabelled` marks the targets that may be positives although they are not annotated as positive. Unknown
targets are marked if the training split has any; otherwise, all negatives are marked, because only some objects may be
annotated. In the argument `positive`, marked targets are negative (0). The docstring of each loss describes how the
loss treats marked targets.

The constants are taken from the following papers and from the code of their authors:

- Hill, SPLC: Zhang et al., Simple and Robust Loss Design for Multi-Label Learning with Missing Labels, arXiv
  2112.07368; xinyu1205/robust-loss-mlml.
- LL-R, LL-Ct: Kim et al., Large Loss Matters in Weakly Supervised Multi-Label Classification, CVPR 2022, arXiv
  2206.03740; snucml/LargeLossMatters.
- EM: Zhou et al., Acknowledging the Unknown for Multi-label Learning with Single Positive Labels, ECCV 2022, arXiv
  2203.16219; Correr-Zhou/SPML-AckTheUnknown.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

if TYPE_CHECKING:
    from mlrec.training.losses import LossContext

FOCAL_MARGIN, FOCAL_GAMMA = 1.0, 2.0  # m and γ of the focal margin loss
HILL_LAMBDA = 1.5  # λ of the Hill loss
SPLC_THRESHOLD, SPLC_START = 0.6, 1  # τ, and the first epoch (counted from 0) in which labels are corrected
ENTROPY_WEIGHT = 0.1  # α of entropy maximization


def focal_margin(logits: Tensor) -> Tensor:
    """Focal margin loss for positives (Zhang et al.), -(1 - p)^γ log p with p = σ(x - m).

    Positives with intermediate p have the largest weight.
    """
    shifted = logits - FOCAL_MARGIN
    return -(torch.sigmoid(-shifted) ** FOCAL_GAMMA) * logsigmoid(shifted)


def hill(logits: Tensor, positive: Tensor, context: LossContext) -> Tensor:  # noqa: ARG001 - same signature for all losses
    """Hill loss (Zhang et al., arXiv 2112.07368).

    The loss is (λ - p) p² for negatives, and the focal margin loss for positives. The gradient is small for negatives
    with high p, because they may be missing positives.
    """
    p = torch.sigmoid(logits)
    return positive * focal_margin(logits) + (1 - positive) * (HILL_LAMBDA - p) * p**2


def splc(logits: Tensor, positive: Tensor, context: LossContext) -> Tensor:
    """Self-paced loss correction (SPLC; Zhang et al., arXiv 2112.07368).

    Unlabeled targets with p > τ are treated as positives. The focal margin loss is used for positives, and the focal
    loss for negatives. No targets are corrected in the first epoch, because p is not yet informative. The authors' code
    shifts the logits by the margin before it corrects targets, so corrected targets have no margin. In this
    implementation, corrected targets have a margin. For COCO with 75% of the labels, the authors use τ = 0.65.
    """
    if context.epoch >= SPLC_START:
        found = context.unlabelled & (torch.sigmoid(logits.detach()) > SPLC_THRESHOLD)
        positive = torch.where(found, 1.0, positive)
    of_negative = -(torch.sigmoid(logits) ** FOCAL_GAMMA) * logsigmoid(-logits)
    return positive * focal_margin(logits) + (1 - positive) * of_negative


def large_loss_rejection(logits: Tensor, positive: Tensor, context: LossContext) -> Tensor:
    """Large loss rejection (LL-R; Kim et al., CVPR 2022).

    The unlabeled targets with the largest losses in the batch are ignored. The ignored fraction of the unlabeled
    targets is epoch · Δ, where Δ is `large_loss_rate` percent. In the first epoch, no targets are ignored. In the
    authors' code, the fraction refers to all targets in the batch, which is nearly the same if few targets are labeled.
    """
    values = _cross_entropy(logits, positive)
    return torch.where(_largest(values, context), 0.0, values)


def large_loss_correction(logits: Tensor, positive: Tensor, context: LossContext) -> Tensor:
    """Temporary large loss correction (LL-Ct; Kim et al., CVPR 2022).

    The targets that LL-R would ignore are treated as positives in the current step. The stored targets do not change.
    """
    values = _cross_entropy(logits, positive)
    return torch.where(_largest(values, context), -logsigmoid(logits), values)


def entropy_maximization(logits: Tensor, positive: Tensor, context: LossContext) -> Tensor:
    """Entropy maximization (EM; Zhou et al., ECCV 2022).

    The loss of unlabeled targets is -α times the entropy of the predicted probability p. The loss of known targets is
    the cross-entropy. Asymmetric pseudo-labeling, the second part of the paper, is not used.
    """
    p = torch.sigmoid(logits)
    entropy = -(p * logsigmoid(logits) + (1 - p) * logsigmoid(-logits))
    return torch.where(context.unlabelled, -ENTROPY_WEIGHT * entropy, _cross_entropy(logits, positive))


def _cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    return -(positive * logsigmoid(logits) + (1 - positive) * logsigmoid(-logits))


def _largest(values: Tensor, context: LossContext) -> Tensor:
    """Return a (B, C) bool mask of the unlabeled targets with the largest losses.

    The mask is computed without a device synchronization.
    """
    candidates = torch.where(context.unlabelled, values.detach(), -math.inf).flatten()
    share = min(context.epoch * context.config.large_loss_rate / 100, 1.0)
    count = (context.unlabelled.sum() * share).ceil()
    rank = torch.empty_like(candidates, dtype=torch.long)
    rank[candidates.argsort(descending=True, stable=True)] = torch.arange(len(candidates), device=values.device)
    return (rank < count).reshape(values.shape) & context.unlabelled
