"""Losses for missing labels and long tails, against slow formulas of their papers in float64."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.training.dataloader import class_aware_order
from mlrec.training.losses import LOSSES, LossContext, loss_function
from mlrec.utils.errors import ConfigError, DataError
from mlrec.utils.plugins import load_part

GENERATOR = np.random.default_rng(3)
LOGITS = torch.tensor(GENERATOR.normal(0, 3, (6, 5)))
TARGETS = torch.tensor(GENERATOR.choice([1, 0, -1], (6, 5), p=[0.3, 0.4, 0.3]))
POSITIVES, SAMPLES = torch.tensor([40.0, 3.0, 12.0, 1.0, 25.0], dtype=torch.float64), 50


def context(epoch: int = 0, **keys: object) -> LossContext:
    return LossContext(Config(**keys), TARGETS == -1, epoch, POSITIVES, SAMPLES)  # type: ignore[arg-type]


def values(name: str, epoch: int = 0, **keys: object) -> np.ndarray:
    return load_part(LOSSES[name])(LOGITS, (TARGETS == 1).double(), context(epoch, **keys)).numpy()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def of_positive(x: float) -> float:
    """Focal margin loss with m = 1 and γ = 2."""
    p = sigmoid(x - 1)
    return -((1 - p) ** 2) * math.log(p)


def each(formula) -> np.ndarray:
    found = np.zeros(TARGETS.shape)
    for i, k in product(*map(range, TARGETS.shape)):
        found[i, k] = formula(LOGITS[i, k].item(), TARGETS[i, k].item(), i, k)
    return found


def bce(x: float, y: int) -> float:
    return -math.log(sigmoid(x)) if y == 1 else -math.log(1 - sigmoid(x))


def test_hill() -> None:
    def slow(x: float, y: int, *_: int) -> float:
        p = sigmoid(x)
        return of_positive(x) if y == 1 else (1.5 - p) * p * p

    np.testing.assert_allclose(values("hill"), each(slow), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_splc_corrects_from_the_second_epoch(epoch: int) -> None:
    def slow(x: float, y: int, *_: int) -> float:
        p = sigmoid(x)
        if y == 1 or (y == -1 and p > 0.6 and epoch >= 1):
            return of_positive(x)
        return -(p**2) * math.log(1 - p)

    assert ((TARGETS == -1) & (torch.sigmoid(LOGITS) > 0.6)).any()
    np.testing.assert_allclose(values("splc", epoch), each(slow), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("epoch", [0, 1, 3, 100])
@pytest.mark.parametrize("name", ["ll-r", "ll-ct"])
def test_large_losses_are_rejected_or_corrected(name: str, epoch: int) -> None:
    plain = each(lambda x, y, *_: bce(x, y))
    unknown = (TARGETS == -1).numpy()
    count = math.ceil(unknown.sum() * min(epoch * 10 / 100, 1))
    limit = sorted(plain[unknown], reverse=True)[count - 1] if count else math.inf
    rejected = unknown & (plain >= limit)
    assert rejected.sum() == count
    corrected = each(lambda x, *_: -math.log(sigmoid(x))) if name == "ll-ct" else np.zeros_like(plain)
    np.testing.assert_allclose(
        values(name, epoch, large_loss_rate=10.0), np.where(rejected, corrected, plain), rtol=1e-10
    )


def test_entropy_maximization() -> None:
    def slow(x: float, y: int, *_: int) -> float:
        p = sigmoid(x)
        return bce(x, y) if y >= 0 else 0.1 * (p * math.log(p) + (1 - p) * math.log(1 - p))

    np.testing.assert_allclose(values("em"), each(slow), rtol=1e-10)


def test_distribution_balanced() -> None:
    counts = POSITIVES.tolist()

    def slow(x: float, y: int, i: int, k: int) -> float:
        present = [j for j in range(5) if TARGETS[i, j] == 1] or list(range(5))
        ratio = (1 / counts[k]) / sum(1 / counts[j] for j in present)
        weight = 0.1 + sigmoid(10 * (ratio - 0.2))
        z = x - 0.05 * math.log(SAMPLES / counts[k] - 1)
        return weight * (math.log(1 + math.exp(-z)) if y == 1 else math.log(1 + math.exp(2 * z)) / 2)

    np.testing.assert_allclose(values("db"), each(slow), rtol=1e-9, atol=1e-15)


def manifest(targets: np.ndarray) -> Manifest:
    names = tuple(f"{k}.jpg" for k in range(len(targets)))
    return Manifest("m", "train", Path("/"), tuple("abcde"[: targets.shape[1]]), names, targets.astype(np.int8))


def test_logit_adjustment_adds_the_prior_log_odds() -> None:
    train = manifest(np.array([[1, 0], [1, 0], [1, 1], [0, -1]]))
    logits, targets = torch.zeros(1, 2), torch.tensor([[1, 0]], dtype=torch.int8)
    odds = [2 * math.log(3.5 / 1.5), 2 * math.log(1.5 / 3.5)]
    expected = (bce(odds[0], 1) + bce(odds[1], 0)) / 2
    assert loss_function(Config(logit_adjust=2.0), train)(logits, targets).item() == pytest.approx(expected, rel=1e-6)


def test_without_unknown_targets_all_negatives_may_be_missing_positives() -> None:
    train = manifest(np.array([[1, 0], [0, 1]]))
    logits, targets = torch.tensor([[0.0, 4.0]]), torch.tensor([[1, 0]], dtype=torch.int8)
    loss = loss_function(Config(loss="splc"), train)
    first, later = loss(logits, targets).item(), loss(logits, targets, 1).item()
    assert first == pytest.approx((of_positive(0) - sigmoid(4) ** 2 * math.log(1 - sigmoid(4))) / 2, rel=1e-5)
    assert later == pytest.approx((of_positive(0) + of_positive(4)) / 2, rel=1e-5)


def test_losses_that_do_not_fit_the_targets_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"this loss requires unknown targets, but .* has none"):
        loss_function(Config(loss="em"), manifest(np.eye(2)))
    with pytest.raises(ConfigError, match="set unknown = negative"):
        loss_function(Config(loss="ll-r", unknown="ignore"), manifest(np.array([[1, -1]])))


def test_class_aware_sampling_draws_labels_equally_often() -> None:
    targets = np.zeros((1000, 3))
    targets[:900, 0] = targets[900:990, 1] = targets[990:995, 2] = 1
    train = manifest(targets)
    drawn = np.concatenate([class_aware_order(train, 0, epoch) for epoch in range(20)])
    shares = targets[drawn].mean(0)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.015)  # 20,000 draws: 4.5 standard errors
    assert drawn.max() < 995
    assert set(range(990, 995)) <= set(drawn.tolist())
    assert (class_aware_order(train, 0, 3) == class_aware_order(train, 0, 3)).all()
    assert (class_aware_order(train, 0, 3) != class_aware_order(train, 1, 3)).any()
    with pytest.raises(DataError, match="requires positive labels"):
        class_aware_order(manifest(np.zeros((2, 2))), 0, 0)
