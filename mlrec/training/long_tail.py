"""Distribution-balanced loss for labels with very different frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import softplus

if TYPE_CHECKING:
    from mlrec.training.losses import LossContext

# The authors' values for COCO-MLT (configs/coco/LT_resnet50_pfc_DB.py); for VOC-MLT they set μ = 0.3 and λ = 5.
DB_ALPHA, DB_BETA, DB_MU = 0.1, 10.0, 0.2  # smoothing of the weights
DB_KAPPA, DB_LAMBDA = 0.05, 2.0  # bias of the logits, and tolerance of negatives


def distribution_balanced(logits: Tensor, positive: Tensor, context: LossContext) -> Tensor:
    """Distribution-balanced loss (Wu et al., ECCV 2020), without resampling and without the focal factor.

    Source: Wu et al., Distribution-Balanced Loss for Multi-Label Classification in Long-Tailed Datasets, arXiv
    2007.09654, and the code of its authors, wutong16/DistributionBalancedLoss.

    A sample that is drawn for a frequent label may also have rare labels. The ratio of the desired to the actual
    frequency of label k is r = (1/n_k) / Σ_{j positive} (1/n_j), where n_k is the number of positives of label k. The
    loss weight is the smoothed ratio w = α + σ(β (r - μ)). Logits are shifted by ν = κ log(N/n_k - 1), where N is the
    number of samples. Negatives with logits below ν therefore have a low loss. With z = x - ν, the loss is
    `w [y log(1 + exp(-z)) + (1 - y)/λ log(1 + exp(λ z))]`.

    The authors use a class-aware sampler (`sampler = "class-aware"`) and multiply the loss by a focal factor with
    γ = 2.

    For a sample without positives, the ratio is computed as if all labels were positive.
    """
    counts = context.positives.clamp(min=1)
    inverse = 1 / counts
    present = torch.where(positive.sum(1, keepdim=True) > 0, positive, 1.0)
    ratio = inverse / (present * inverse).sum(1, keepdim=True)
    weight = DB_ALPHA + torch.sigmoid(DB_BETA * (ratio - DB_MU))
    shift = DB_KAPPA * torch.log((context.samples / counts - 1).clamp(min=1e-6))
    shifted = logits - shift
    return weight * (positive * softplus(-shifted) + (1 - positive) * softplus(DB_LAMBDA * shifted) / DB_LAMBDA)
