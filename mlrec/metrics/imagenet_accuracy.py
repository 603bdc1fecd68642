"""Accuracy gains over λ = 0, with bootstrap confidence intervals over images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.metrics.intervals import Interval, bias_corrected, percentiles
from mlrec.metrics.resamples import RESAMPLES, Units


@dataclass(frozen=True)
class AccuracyGains:
    """Accuracy gains over λ = 0, with 95% confidence intervals.

    Attributes:
        best: Position of the λ with the highest accuracy; the first one in case of ties.
        best_gain: Gain of the best λ, chosen on the same images on which it is evaluated. For the interval, the best λ
            is chosen again in each resample.
        fixed_gain: Gain of the predefined λ.
    """

    best: int
    best_gain: Interval
    fixed_gain: Interval


def accuracy_gains(
    right: NDArray[np.bool_], zero: int, fixed: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> AccuracyGains:
    """Compute the accuracy gains of the best λ and of a predefined λ over λ = 0.

    Args:
        right: (L, N) bool array: entry (l, n) is True if image n is classified correctly with λ number l.
        zero: Position of λ = 0.
        fixed: Position of the predefined λ.
        resamples: Number of bootstrap resamples of the images.
        seed: Random seed.
    """
    number = right.shape[1]
    counts = right.sum(axis=1)
    values: NDArray[Any] = right.astype(np.float32)
    drawn = np.concatenate(
        [values @ weights.astype(np.float32) for weights in Units.of(number).draw(resamples, seed)], axis=1
    )
    gains = (drawn - drawn[zero]) / number
    best = int(counts.argmax())
    own = (counts - counts[zero]) / number
    return AccuracyGains(
        best,
        Interval(float(own[best]), *percentiles(gains.max(axis=0)), number, resamples),
        Interval(float(own[fixed]), *bias_corrected(float(own[fixed]), gains[fixed]), number, resamples),
    )
