"""Platt scaling of each label, and calibration metrics.

The calibrated probability is sigmoid(a·z + b), where a and b are fitted by maximum likelihood (Platt, "Probabilistic
outputs for support vector machines", 1999). The targets in this fit are slightly above 0 or slightly below 1, so that
the slope a remains finite even if all positives of a label are ranked above all negatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.metrics.thresholds import LEAST_POSITIVES
from mlrec.predictions import probabilities_of

BINS = 15
_STEPS, _SMALL = 100, 1e-10
Floats = NDArray[np.floating[Any]]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Platt scaling: the logit z of label k becomes a_k·z + b_k.

    Because a_k > 0, Platt scaling does not change the ranking of samples.

    Attributes:
        slopes, offsets: (C,) arrays with the slope a and the offset b of each label.
        own: (C,) bool array: True if the slope of the label is fitted to this label only, False if the common slope is
            used.
    """

    slopes: Numbers
    offsets: Numbers
    own: NDArray[np.bool_]

    def apply(self, logits: Floats) -> Numbers:
        """Return the calibrated logits (..., C)."""
        return np.asarray(self.slopes * logits.astype(np.float64) + self.offsets)


@dataclass(frozen=True)
class Reliability:
    """Calibration metrics over all sample-label pairs with a known target.

    Attributes:
        nll: Mean negative log-likelihood.
        brier: Mean squared difference between probability and target (Brier score).
        ece: Expected calibration error: mean absolute difference between predicted probability and observed frequency
            over 15 bins of equal width, weighted by the number of pairs in each bin.
    """

    nll: float
    brier: float
    ece: float


def fit_calibration(logits: Floats, targets: NDArray[np.int8], *, least: int = LEAST_POSITIVES) -> Calibration:
    """Fit the parameters a and b of Platt scaling for each label.

    For labels with fewer than `least` positives, one common slope a is fitted to all labels together. The common slope
    is also used for a label whose own slope is not positive, because a negative slope would reverse the ranking.
    If the common slope is not positive either, it is set to 1.

    Args:
        logits: (N, C) logits.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown, ignored).
        least: Minimum number of positives for a label-specific slope.
    """
    known, exact = targets >= 0, logits.astype(np.float64)
    pooled, _ = _fit(exact[known], targets[known] == 1)
    if pooled <= 0:
        pooled = 1.0
    labels = logits.shape[1]
    slopes, offsets, own = np.full(labels, pooled), np.zeros(labels), np.zeros(labels, dtype=np.bool_)
    for k in range(labels):
        scores, positive = exact[known[:, k], k], targets[known[:, k], k] == 1
        if positive.sum() >= least:
            slopes[k], offsets[k] = _fit(scores, positive)
            own[k] = slopes[k] > 0
        if not own[k]:
            slopes[k] = pooled
            _, offsets[k] = _fit(pooled * scores, positive, slope=1.0)
    return Calibration(slopes, offsets, own)


def reliability(logits: Floats, targets: NDArray[np.int8], bins: int = BINS) -> Reliability | None:
    """Compute calibration metrics of sigmoid(`logits`), or return None if no target is known."""
    known = targets >= 0
    z, y = logits[known].astype(np.float64), (targets[known] == 1).astype(np.float64)
    if not z.size:
        return None
    p = probabilities_of(z)
    place = np.minimum((p * bins).astype(np.intp), bins - 1)
    gaps = np.abs(np.bincount(place, p - y, minlength=bins))
    return Reliability(
        nll=float((np.logaddexp(0, z) - y * z).mean()),
        brier=float(((p - y) ** 2).mean()),
        ece=float(gaps.sum() / z.size),
    )


def _fit(z: Numbers, positive: NDArray[np.bool_], *, slope: float | None = None) -> tuple[float, float]:
    """Maximize Platt's likelihood by Newton's method and return a and b.

    If `slope` is set, a is fixed to `slope`.
    """
    hits, misses = int(positive.sum()), int((~positive).sum())
    wanted = np.where(positive, (hits + 1) / (hits + 2), 1 / (misses + 2))  # Platt's targets: never exactly 0 or 1
    columns = np.stack([z, np.ones_like(z)], axis=1)
    free = np.array([slope is None, True])
    at = np.array([0.0, np.log((hits + 1) / (misses + 1))])  # the prior
    if slope is not None:
        at = np.array([slope, 0.0])
    loss = _loss(columns @ at, wanted)
    for _ in range(_STEPS):
        p = probabilities_of(columns @ at)
        gradient = (columns.T @ (p - wanted))[free]
        curvature = (columns.T @ (columns * (p * (1 - p))[:, None]))[np.ix_(free, free)]
        step = np.zeros(2)
        step[free] = np.linalg.solve(curvature + _SMALL * np.eye(len(gradient)), gradient)
        now = _loss(columns @ (at - step), wanted)
        while now > loss and np.abs(step).max() > _SMALL:  # a full Newton step may overshoot
            step /= 2
            now = _loss(columns @ (at - step), wanted)
        if loss - now <= _SMALL * max(1.0, abs(loss)):
            break
        at, loss = at - step, now
    return float(at[0]), float(at[1])


def _loss(z: Numbers, wanted: Numbers) -> float:
    return float((np.logaddexp(0, z) - wanted * z).sum())
