"""Losses of multi-label training: a value per sample and label, weighted, then averaged over known labels.

The paper averages over samples and labels; a sum over labels would scale the learning rate by their number. Losses
are computed in float32, also under autocast.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mlrec.config import Config
from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest, label_order
from mlrec.utils.errors import ConfigError, DataError, printable
from mlrec.utils.files import read_text

Loss = Callable[[Tensor, Tensor], Tensor]


def bce(logits: Tensor, positive: Tensor, config: Config) -> Tensor:  # noqa: ARG001 - all losses have one signature
    """Binary cross-entropy with logits: -log p of a positive, -log(1 - p) of a negative."""
    return functional.binary_cross_entropy_with_logits(logits, positive, reduction="none")


def asl(logits: Tensor, positive: Tensor, config: Config) -> Tensor:
    """Asymmetric loss (Ridnik et al. 2021, Eqs. 4-7), with the gradient of its focusing factors.

    -(1 - p)^γ₊ log p of a positive and -pₘ^γ₋ log(1 - pₘ) of a negative, pₘ = max(p - m, 0); γ₊ is `gamma_pos`,
    γ₋ `gamma_neg` and the margin m `asl_clip`.
    """
    p, q = torch.sigmoid(logits), torch.sigmoid(-logits)
    shifted = (p - config.asl_clip).clamp(min=0)
    # 1 - pm is at least the margin; without one its logarithm is exact only from the logit.
    log_rest = torch.log((q + config.asl_clip).clamp(max=1)) if config.asl_clip else functional.logsigmoid(-logits)
    of_positive = _power(q, config.gamma_pos) * functional.logsigmoid(logits)
    of_negative = _power(shifted, config.gamma_neg) * log_rest
    return -(positive * of_positive + (1 - positive) * of_negative)


def focal(logits: Tensor, positive: Tensor, config: Config) -> Tensor:
    """Focal loss (Lin et al. 2017, Eq. 4): (1 - pₜ)^γ times the cross-entropy, γ being `gamma_pos`."""
    wrong = torch.sigmoid(logits * (1 - 2 * positive))  # 1 - p of the true value
    return _power(wrong, config.gamma_pos) * bce(logits, positive, config)


LOSSES: dict[str, Callable[[Tensor, Tensor, Config], Tensor]] = {"bce": bce, "asl": asl, "focal": focal}


def loss_function(config: Config, manifest: Manifest) -> Loss:
    """Return the loss of a run: (logits (B, C), targets (B, C) of 1, 0, -1) → mean loss, a float32 scalar.

    With `config.unknown`, -1 is either a negative or left out of the mean (0 for a batch without known targets).
    `config.pos_weight` multiplies the loss of positives; "auto" weights come from `manifest`, the training split.

    Raises:
        ConfigError: The file of weights does not match the labels.
    """
    loss_per_target, weight = LOSSES[config.loss], positive_weight(config, manifest)
    weight_on = functools.cache(lambda device: None if weight is None else torch.from_numpy(weight).to(device))

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            positive = (targets == POSITIVE).to(torch.float32)
            values = loss_per_target(logits.to(torch.float32), positive, config)
            factor = weight_on(logits.device)
            if factor is not None:
                values = values * torch.where(targets == POSITIVE, factor, 1.0)
            if config.unknown == "negative":
                return values.mean()
            known = targets != UNKNOWN
            return torch.where(known, values, 0.0).sum() / known.sum().clamp(min=1)

    return loss


def positive_weight(config: Config, manifest: Manifest) -> np.ndarray[tuple[int], np.dtype[np.float32]] | None:
    """Return the weights (C,) of positives: none, negatives / positives of each label ("auto"), or those of a file.

    A label without positives or without negatives has weight 1.

    Raises:
        ConfigError: The file is not a list of `label,weight` lines with a positive number for each label.
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
    shown, labels, weights = printable(path), [], []
    for number, row in enumerate(csv.reader(read_text(path, ConfigError).splitlines()), 1):
        if not row or [cell.strip().lower() for cell in row] == ["label", "weight"]:
            continue
        try:
            label, weight = row[0].strip(), float(row[1])
            if len(row) != 2 or not (math.isfinite(weight) and weight > 0):
                raise ValueError(row)
        except (ValueError, IndexError) as error:
            raise ConfigError(f"{shown}: line {number}: expected label,weight with a weight above 0") from error
        if label in labels:
            raise ConfigError(f"{shown}: line {number}: label '{printable(label)}' is listed twice; keep one line")
        labels.append(label)
        weights.append(weight)
    try:
        return np.array(weights, dtype=np.float32)[label_order(labels, manifest.labels)]
    except DataError as error:
        raise ConfigError(f"{shown}: {error}") from error


def _power(base: Tensor, exponent: float) -> Tensor:
    """Compute `base ** exponent` for bases in [0, 1], with a finite gradient at 0 also for exponents below 1."""
    if exponent == 0:
        return torch.ones_like(base)
    return base.clamp(min=torch.finfo(base.dtype).tiny).pow(exponent)
