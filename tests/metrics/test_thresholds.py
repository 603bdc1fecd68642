"""Thresholds against every choice there is, and against scikit-learn."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_score, recall_score

from mlrec.metrics.conventions import CONVENTIONS
from mlrec.metrics.precision_recall import count, rates
from mlrec.metrics.thresholds import find_thresholds, target_named
from mlrec.utils.errors import UsageError

ALL_CUTS = range(-8, 10)


def drawn(seed: int, samples: int = 14, labels: int = 3) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Whole-numbered logits with ties, informative truth, some of it unknown."""
    rng = np.random.default_rng(seed)
    logits = rng.integers(-7, 8, (samples, labels)).astype(np.float32)
    targets = (logits + rng.normal(0, 5, logits.shape) > 2).astype(np.int8)
    targets[rng.random(targets.shape) < 0.1] = -1
    targets[0] = 1
    return logits, targets


def reached(logits: NDArray[np.float32], targets: NDArray[np.int8], cuts: NDArray[np.float64], metric: str) -> float:
    rules = CONVENTIONS["mlrec"]
    return float(rates(count(logits >= cuts, targets, rules), rules)[metric])


def best_of_all(logits: NDArray[np.float32], targets: NDArray[np.int8], metric: str) -> float:
    """Every combination of cuts between whole numbers."""
    every = product(*[[cut - 0.5 for cut in ALL_CUTS]] * logits.shape[1])
    return max(reached(logits, targets, np.array(cuts), metric) for cuts in every)


@pytest.mark.parametrize("seed", range(4))
def test_of1_is_the_highest_there_is(seed: int) -> None:
    logits, targets = drawn(seed, labels=2)
    found = find_thresholds(logits, targets, "OF1", least=1)
    assert reached(logits, targets, found.values, "OF1") == pytest.approx(best_of_all(logits, targets, "OF1"))


@pytest.mark.parametrize("seed", range(4))
def test_cf1_is_near_the_highest_there_is(seed: int) -> None:
    logits, targets = drawn(seed, labels=2)
    found = find_thresholds(logits, targets, "CF1", least=1, prior=0)
    assert reached(logits, targets, found.values, "CF1") >= 0.97 * best_of_all(logits, targets, "CF1")


@pytest.mark.parametrize("seed", range(10))
def test_each_labels_f1_is_the_highest_there_is(seed: int) -> None:
    logits, targets = drawn(seed, samples=40)
    found = find_thresholds(logits, targets, "F1", least=1)
    for k in range(3):
        known = targets[:, k] >= 0
        z, y = logits[known, k], targets[known, k]
        best = max(f1_score(y, z >= cut - 0.5) for cut in ALL_CUTS)
        assert f1_score(y, z >= found.values[k]) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("precision", [0.6, 0.9])
def test_the_highest_recall_at_a_precision(seed: int, precision: float) -> None:
    logits, targets = drawn(seed, samples=40)
    found = find_thresholds(logits, targets, "precision", precision=precision, least=1)
    for k in range(3):
        known = targets[:, k] >= 0
        z, y = logits[known, k], targets[known, k]
        allowed = [c - 0.5 for c in ALL_CUTS if precision_score(y, z >= c - 0.5, zero_division=0) >= precision]
        best = max((recall_score(y, z >= cut) for cut in allowed), default=0.0)
        assert recall_score(y, z >= found.values[k]) == pytest.approx(best)
        assert np.isinf(found.values[k]) == (best == 0)


def test_labels_with_few_positives_take_the_common_threshold() -> None:
    logits, targets = drawn(0, samples=200)
    targets[:, 2] = 0
    targets[:19, 2] = 1
    for target in ("CF1", "OF1", "F1"):
        found = find_thresholds(logits, targets, target_named(target))
        assert found.own.tolist() == [True, True, False]
        assert found.values[2] == found.common
        rules = CONVENTIONS["macro-f1" if target == "F1" else "mlrec"]
        metric = "OF1" if target == "OF1" else "CF1"
        every = [float(rates(count(logits >= c - 0.5, targets, rules), rules)[metric]) for c in ALL_CUTS]
        assert float(rates(count(logits >= found.common, targets, rules), rules)[metric]) == pytest.approx(max(every))


def test_a_threshold_is_between_the_scores_it_divides() -> None:
    logits = np.array([[3.0], [1.0], [-2.0]], np.float32)
    assert find_thresholds(logits, np.array([[1], [0], [0]], np.int8), "F1", least=1).values == [2.0]
    assert find_thresholds(logits, np.array([[1], [-1], [0]], np.int8), "F1", least=1).values == [0.5]


def test_targets_by_name() -> None:
    assert target_named("cf1") == "CF1"
    with pytest.raises(UsageError, match="did you mean 'OF1'"):
        target_named("OFI")


def test_cf1_on_new_samples_gains_by_the_prior() -> None:
    """Half of the samples choose, the other half judge; many labels of middling quality, as on small data."""
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(10):
        z = rng.normal(-2, 1.5, (400, 12))
        targets = (rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype(np.int8)
        logits = (z + rng.normal(0, 1, z.shape)).astype(np.float32)
        chosen = [find_thresholds(logits[:200], targets[:200], "CF1", prior=prior).values for prior in (0.0, 20.0)]
        without, with_prior = (reached(logits[200:], targets[200:], cuts, "CF1") for cuts in chosen)
        gains.append(with_prior - without)
    assert np.mean(gains) > 0.005
