"""Calibration against scikit-learn's Platt, and what it must never do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.calibration import _sigmoid_calibration
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import binary_calibration_error

from mlrec.metrics.calibration import fit_calibration, reliability
from mlrec.predictions import probabilities_of


def drawn(samples: int = 600) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Logits that are three times too large, shifted; the last label is rare; some truths unknown."""
    rng = np.random.default_rng(1)
    z = rng.normal([0, -1, -3], 1.5, (samples, 3))
    targets = (rng.random(z.shape) < probabilities_of(z)).astype(np.int8)
    targets[:, 2] = 0
    targets[np.argsort(-z[:, 2])[:10], 2] = 1
    targets[::17, 0] = -1
    return (3 * z + 1).astype(np.float32), targets


def test_each_label_is_fitted_as_scikit_learn_does() -> None:
    logits, targets = drawn()
    found = fit_calibration(logits, targets)
    assert found.own.tolist() == [True, True, False]
    for k in (0, 1):
        known = targets[:, k] >= 0
        a, b = _sigmoid_calibration(logits[known, k].astype(np.float64), targets[known, k])
        assert found.slopes[k] == pytest.approx(-a, rel=1e-3)
        assert found.offsets[k] == pytest.approx(-b, rel=1e-2, abs=1e-3)


def test_a_rare_label_takes_the_slope_of_all_and_an_offset_of_its_own() -> None:
    logits, targets = drawn()
    found = fit_calibration(logits, targets)
    known = targets >= 0
    pooled, _ = _sigmoid_calibration(logits[known].astype(np.float64), targets[known])
    assert found.slopes[2] == pytest.approx(-pooled, rel=1e-3)
    mean = probabilities_of(found.apply(logits))[:, 2].mean()
    assert mean == pytest.approx((10 * 11 / 12 + 590 / 592) / 600, rel=1e-4)  # the likelihood's own condition on b


def test_probabilities_become_better_and_rankings_stay() -> None:
    logits, targets = drawn()
    fitted = fit_calibration(logits, targets)
    before, after = reliability(logits, targets), reliability(fitted.apply(logits), targets)
    assert before is not None
    assert after is not None
    assert after.nll < before.nll
    assert after.brier < before.brier
    assert after.ece < before.ece / 2
    assert (np.argsort(fitted.apply(logits), axis=0, kind="stable") == np.argsort(logits, axis=0, kind="stable")).all()


def test_reliability_is_what_others_compute() -> None:
    logits, targets = drawn()
    found, known = reliability(logits, targets), targets >= 0
    p, y = probabilities_of(logits[known]), targets[known]
    assert found is not None
    assert found.nll == pytest.approx(log_loss(y, p), rel=1e-6)
    assert found.brier == pytest.approx(brier_score_loss(y, p))
    theirs = binary_calibration_error(torch.tensor(p), torch.tensor(y, dtype=torch.int64), n_bins=15, norm="l1")
    assert found.ece == pytest.approx(float(theirs), rel=1e-5)
    assert reliability(logits, np.full_like(targets, -1)) is None


@pytest.mark.parametrize("case", ["all positive", "none positive", "turned over", "constant", "separable", "unknown"])
def test_odd_labels_get_finite_numbers_and_a_slope_above_zero(case: str) -> None:
    logits = np.linspace(-4, 4, 60, dtype=np.float32)[:, None]
    targets = (logits > 0).astype(np.int8)
    if case == "constant":
        logits = np.full_like(logits, 0.25)
    else:
        fill = {"all positive": 1, "none positive": 0, "unknown": -1}
        targets = {"turned over": 1 - targets, "separable": targets}.get(case, np.full_like(targets, fill.get(case, 0)))
    found = fit_calibration(logits, targets)
    assert np.isfinite([found.slopes, found.offsets]).all()
    assert (found.slopes > 0).all()
