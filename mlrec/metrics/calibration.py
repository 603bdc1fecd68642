"""Platt's calibration of each label, and how far probabilities are from frequencies.

Platt, "Probabilistic outputs for support vector machines", 1999: p = sigmoid(a·z + b), fitted by maximum likelihood to
targets drawn in from 1 and 0, so that a label whose positives all rank first has a finite a.
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
    """Logits z of label k become a_k·z + b_k; each a is above 0, so that no ranking changes.

    Attributes:
        slopes, offsets: a and b, (C,).
        own: (C,) whether a is the label's own, or that of all labels together because it has few positives.
    """

    slopes: Numbers
    offsets: Numbers
    own: NDArray[np.bool_]

    def apply(self, logits: Floats) -> Numbers:
        """Calibrated logits (..., C)."""
        return np.asarray(self.slopes * logits.astype(np.float64) + self.offsets)


@dataclass(frozen=True)
class Reliability:
    """Over all pairs of sample and label whose truth is known.

    Attributes:
        nll: mean negative log-likelihood.
        brier: mean squared difference of probability and truth.
        ece: mean difference of probability and frequency in 15 bins of equal width, weighted by their size.
    """

    nll: float
    brier: float
    ece: float


def fit_calibration(logits: Floats, targets: NDArray[np.int8], *, least: int = LEAST_POSITIVES) -> Calibration:
    """Fit a and b of each label; labels with fewer than `least` positives take the a of all labels together.

    So does a label whose own a is not above 0: it would turn its ranking over.

    Args:
        logits: (N, C).
        targets: (N, C); 1 positive, 0 negative, -1 unknown, which counts nowhere.
        least: see above.
    """
    known, exact = targets >= 0, logits.astype(np.float64)
    pooled, _ = _fit(exact[known], targets[known] == 1)
    pooled = pooled if pooled > 0 else 1.0
    rows = []
    for k in range(logits.shape[1]):
        scores, positive = exact[known[:, k], k], targets[known[:, k], k] == 1
        a, b = _fit(scores, positive) if positive.sum() >= least else (0.0, 0.0)
        own = a > 0
        rows.append((a, b, own) if own else (pooled, _fit(pooled * scores, positive, slope=1.0)[1], own))
    slopes, offsets, mine = zip(*rows, strict=True)
    return Calibration(np.array(slopes), np.array(offsets), np.array(mine, dtype=np.bool_))


def reliability(logits: Floats, targets: NDArray[np.int8], bins: int = BINS) -> Reliability | None:
    """How good the probabilities sigmoid(`logits`) (N, C) are; None where no truth is known."""
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
    """The a and b of Platt's likelihood, by Newton's method; a is `slope` where that is given."""
    hits, misses = int(positive.sum()), int((~positive).sum())
    wanted = np.where(positive, (hits + 1) / (hits + 2), 1 / (misses + 2))
    columns = np.stack([z, np.ones_like(z)], axis=1)
    free = np.array([slope is None, True])
    at = np.array([0.0 if slope is None else slope, 0.0 if slope else np.log((hits + 1) / (misses + 1))])
    loss = _loss(columns @ at, wanted)
    for _ in range(_STEPS):
        p = probabilities_of(columns @ at)
        gradient = (columns.T @ (p - wanted))[free]
        curvature = (columns.T @ (columns * (p * (1 - p))[:, None]))[np.ix_(free, free)]
        step = np.zeros(2)
        step[free] = np.linalg.solve(curvature + _SMALL * np.eye(len(gradient)), gradient)
        while (now := _loss(columns @ (at - step), wanted)) > loss and np.abs(step).max() > _SMALL:
            step /= 2
        if loss - now <= _SMALL * max(1.0, abs(loss)):
            break
        at, loss = at - step, now
    return float(at[0]), float(at[1])


def _loss(z: Numbers, wanted: Numbers) -> float:
    return float((np.logaddexp(0, z) - wanted * z).sum())
