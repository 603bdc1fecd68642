"""Multi-label losses, selected by name.

A loss has one value per sample and label; the weighted values are averaged over all targets or over the known targets,
see `loss_function`. The paper averages over samples and labels; a sum over labels would scale the learning rate by the
number of labels. Losses are computed in float32, even under autocast. A new loss requires a function, one line in
`LOSSES` and its name in `mlrec.config.PARTS`; another package can add a loss with an entry point in the group
`mlrec.losses`.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mlrec.config import Config
from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest
from mlrec.utils.errors import ConfigError, DataError
from mlrec.utils.files import read_text
from mlrec.utils.names import label_order
from mlrec.utils.plugins import find_part


class Loss(Protocol):
    """Mean loss of a batch, computed from logits (B, C), targets (B, C) and the epoch.

    Targets are 1 (positive), 0 (negative) or -1 (unknown). Epochs are counted from 0.
    """

    def __call__(self, logits: Tensor, targets: Tensor, epoch: int = 0) -> Tensor:
        """Return the mean loss as a float32 scalar."""
        ...


@dataclass(frozen=True)
class LossContext:
    """Additional inputs to a loss function, such as the epoch and the label counts.

    Attributes:
        config: Config of the run.
        unlabelled: Bool tensor (B, C); True for targets that may be missing positives, see `missing_labels`.
        epoch: Epoch, starting from 0.
        positives: Float32 tensor (C,) with the number of positives of each label in the training split.
        samples: Number of samples in the training split.
    """

    config: Config
    unlabelled: Tensor
    epoch: int
    positives: Tensor
    samples: int


def bce(logits: Tensor, positive: Tensor, context: LossContext) -> Tensor:  # noqa: ARG001 - all losses have the same signature
    """Binary cross-entropy with logits: -log p for positives, -log(1 - p) for negatives."""
    return functional.binary_cross_entropy_with_logits(logits, positive, reduction="none")


def asl(logits: Tensor, positive: Tensor, context: LossContext) -> Tensor:
    """Asymmetric loss (Ridnik et al. 2021, equations 4 to 7).

    Gradients also flow through the focusing factors.

    For positives, the loss is -(1 - p)^γ₊ log p, where γ₊ is `gamma_pos`. For negatives, the loss is -pₘ^γ₋ log(1 - pₘ)
    with pₘ = max(p - m, 0), where γ₋ is `gamma_neg` and the margin m is `asl_clip`.
    """
    config = context.config
    p, q = torch.sigmoid(logits), torch.sigmoid(-logits)
    shifted = (p - config.asl_clip).clamp(min=0)
    # 1 - pm is at least the margin; without a margin, the logarithm is exact only if computed from the logit.
    log_rest = torch.log((q + config.asl_clip).clamp(max=1)) if config.asl_clip else functional.logsigmoid(-logits)
    of_positive = _power(q, config.gamma_pos) * functional.logsigmoid(logits)
    of_negative = _power(shifted, config.gamma_neg) * log_rest
    return -(positive * of_positive + (1 - positive) * of_negative)


def focal(logits: Tensor, positive: Tensor, context: LossContext) -> Tensor:
    """Focal loss (Lin et al. 2017, Eq. 4): (1 - pₜ)^γ times the cross-entropy, where γ is `gamma_pos`."""
    wrong = torch.sigmoid(logits * (1 - 2 * positive))  # 1 - p of the true value
    return _power(wrong, context.config.gamma_pos) * bce(logits, positive, context)


# Each function returns the loss of each target, (B, C), for float32 logits (B, C) and `positive` (B, C), which is 1 for
# positives and 0 for negatives and unknown targets.
TargetLoss = Callable[[Tensor, Tensor, LossContext], Tensor]
# Module and function for each loss name in `mlrec.config.PARTS`; the module is imported when the loss is used.
LOSSES = {
    "bce": "mlrec.training.losses:bce",
    "asl": "mlrec.training.losses:asl",
    "focal": "mlrec.training.losses:focal",
    "hill": "mlrec.training.missing_labels:hill",
    "splc": "mlrec.training.missing_labels:splc",
    "ll-r": "mlrec.training.missing_labels:large_loss_rejection",
    "ll-ct": "mlrec.training.missing_labels:large_loss_correction",
    "em": "mlrec.training.missing_labels:entropy_maximization",
    "db": "mlrec.training.long_tail:distribution_balanced",
}


NEEDS_UNKNOWN = ("em",)
TREATS_UNKNOWN = ("splc", "ll-r", "ll-ct", "em")  # losses with their own treatment of unknown targets


def loss_function(config: Config, manifest: Manifest) -> Loss:
    """Return the loss function for a config and the training split `manifest`.

    Depending on `config.unknown`, unknown targets (-1) are either treated as negatives or excluded from the mean. If
    unknown targets are excluded, the loss of a batch without known targets is 0. `config.pos_weight` multiplies the
    loss of positives; "auto" weights are computed from `manifest`.

    `config.logit_adjust` adds τ times the prior log odds to the logits, see `prior_log_odds`.

    Raises:
        ConfigError: The loss is unknown, the `pos_weight` file is invalid or does not match the labels, or the loss
            cannot be used with `config.unknown` or the targets.
    """
    loss_per_target: TargetLoss = find_part("loss", config.loss, LOSSES, ConfigError)
    weight = positive_weight(config, manifest)
    has_unknown = bool((manifest.targets == UNKNOWN).any())
    if config.loss in NEEDS_UNKNOWN and not has_unknown:
        raise ConfigError(
            f"loss = {config.loss}: this loss requires unknown targets, but {manifest.name}/{manifest.split} has none; "
            "use bce, splc or hill"
        )
    if config.loss in TREATS_UNKNOWN and has_unknown and config.unknown == "ignore":
        raise ConfigError(
            f"loss = {config.loss} uses unknown targets, so unknown = ignore cannot be used; set unknown = negative"
        )
    positives = torch.from_numpy((manifest.targets == POSITIVE).sum(axis=0).astype(np.float32))

    @functools.cache
    def on_device(device: torch.device) -> tuple[Tensor, Tensor | None]:
        return positives.to(device), None if weight is None else torch.from_numpy(weight).to(device)

    def loss(logits: Tensor, targets: Tensor, epoch: int = 0) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            counts, factor = on_device(logits.device)
            is_positive = targets == POSITIVE
            unlabelled = targets == UNKNOWN if has_unknown else ~is_positive
            context = LossContext(config, unlabelled, epoch, counts, len(manifest))
            logits = logits.to(torch.float32)
            if config.logit_adjust:
                logits = logits + config.logit_adjust * prior_log_odds(context)
            values = loss_per_target(logits, is_positive.to(torch.float32), context)
            if values.shape != logits.shape:  # a mean loss would be broadcast below without an error
                raise ConfigError(
                    f"loss '{config.loss}' returns values of shape {tuple(values.shape)} for logits of shape "
                    f"{tuple(logits.shape)}; a loss must return one value per logit"
                )
            if factor is not None:
                values = values * torch.where(is_positive, factor, 1.0)
            if config.unknown == "negative":
                return values.mean()
            known = targets != UNKNOWN
            return torch.where(known, values, 0.0).sum() / known.sum().clamp(min=1)

    return loss


def prior_log_odds(context: LossContext) -> Tensor:
    """Return the prior log odds log(π / (1 - π)) of each label, where π is its prevalence.

    The result is a (C,) tensor. To estimate π, 0.5 is added to the number of positives and to the number of other
    samples; samples with an unknown target count as negatives.

    Logit adjustment adds τ times the log odds to the logits, but only in the loss. The scores of the model therefore do
    not include the prior, which improves the results for rare labels. Source: Menon et al., Long-tail learning via
    logit adjustment, ICLR 2021, arXiv 2007.07314, where the method is described for softmax and class priors.
    """
    positives = context.positives + 0.5
    return torch.log(positives / (context.samples - context.positives + 0.5))


def positive_weight(config: Config, manifest: Manifest) -> np.ndarray[tuple[int], np.dtype[np.float32]] | None:
    """Return an array (C,) with the loss weight of the positives of each label.

    If `config.pos_weight` is "none", None is returned. If it is "auto", the weight of a label is its number of
    negatives divided by its number of positives; labels without positives or without negatives have weight 1. With
    `config.unknown` = "negative", unknown targets count as negatives. Any other value is the path of a file with
    weights.

    Raises:
        ConfigError: The file cannot be read, or does not contain exactly one `label,weight` line with a positive weight
            for each label.
    """
    if config.pos_weight == "none":
        return None
    if config.pos_weight != "auto":
        return _read_weights(Path(config.pos_weight), manifest)
    positives = manifest.sparse_targets.counts(POSITIVE)
    negatives = manifest.sparse_targets.counts(NEGATIVE)
    if config.unknown == "negative":
        negatives = len(manifest) - positives
    return np.where((positives > 0) & (negatives > 0), negatives / np.maximum(positives, 1), 1.0).astype(np.float32)


def _read_weights(path: Path, manifest: Manifest) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    labels, weights = [], []
    for number, row in enumerate(csv.reader(read_text(path, ConfigError).splitlines()), 1):
        if not row or [cell.strip().lower() for cell in row] == ["label", "weight"]:
            continue
        try:
            label, weight = row[0].strip(), float(row[1])
            if len(row) != 2 or not (math.isfinite(weight) and weight > 0):
                raise ValueError(row)
        except (ValueError, IndexError) as error:
            raise ConfigError(
                f"{path}: line {number}: expected 'label,weight'; the weight must be greater than 0"
            ) from error
        if label in labels:
            raise ConfigError(f"{path}: line {number}: label '{label}' is listed twice; keep one line")
        labels.append(label)
        weights.append(weight)
    try:
        return np.array(weights, dtype=np.float32)[label_order(labels, manifest.labels)]
    except DataError as error:
        raise ConfigError(f"{path}: {error}") from error


def _power(base: Tensor, exponent: float) -> Tensor:
    """Compute `base ** exponent` for bases in [0, 1], with a finite gradient at 0.

    The gradient is finite even for exponents below 1.
    """
    if exponent == 0:
        return torch.ones_like(base)
    return base.clamp(min=torch.finfo(base.dtype).tiny).pow(exponent)
