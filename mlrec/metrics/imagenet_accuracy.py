"""Accuracy at every λ with its intervals, from whether each image is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.metrics.intervals import Interval, bias_corrected, percentiles
from mlrec.metrics.resamples import RESAMPLES, Units


@dataclass(frozen=True)
class AccuracyGains:
    """Gains of accuracy over λ = 0, with 95 % intervals.

    Attributes:
        best: position of the λ that is right most often, the first of equals.
        best_gain: chosen on the scored images themselves; its interval repeats the choice in every resample.
        fixed_gain: of the λ fixed beforehand.
    """

    best: int
    best_gain: Interval
    fixed_gain: Interval


def accuracy_gains(
    right: NDArray[np.bool_], zero: int, fixed: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> AccuracyGains:
    """What λ gains over none.

    Args:
        right: (L, N) whether image n is right at λ l.
        zero: position of λ = 0.
        fixed: position of the λ fixed beforehand.
        resamples: of the images.
        seed: of the draws.
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
