"""`Interval`: a number and where it may as well lie.

Intervals are bias-corrected percentile intervals (Efron 1981, Nonparametric standard errors and confidence intervals).
AP of a small set is biased upwards, and that of its resamples once more: on 1,000 subsets of 545 images plain
percentiles lie above the mAP of all 5,823 in 4.5 % and below it in 0.7 % of the cases, these in 2.8 % and 2.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Interval:
    """A statistic and its 95 % bootstrap interval.

    Attributes:
        value: of the whole test set; a fraction, or a difference of fractions.
        low, high: ends of the interval.
        units: how many units (images) were drawn from.
        resamples: how often.
        seeds: runs behind the number, one entry a method; 1 says nothing about other seeds.
    """

    value: float
    low: float
    high: float
    units: int
    resamples: int
    seeds: tuple[int, ...] = (1,)

    @property
    def half_width(self) -> float:
        """Half the distance of the ends: the ± of the number."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference can be told from none."""
        return self.low > 0 or self.high < 0


def bias_corrected(value: float, drawn: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of the bias-corrected percentile interval of a statistic.

    The percentiles are moved by twice the normal quantile of the share of resamples below the statistic's own value
    (half of the equal ones among them): not at all where resamples lie evenly around it.

    Args:
        value: the statistic of the whole set.
        drawn: (B,) the statistic of each resample.
    """
    below = float(np.mean(drawn < value) + np.mean(drawn == value) / 2)
    margin = 1 / (2 * len(drawn))
    shift = 2 * _NORMAL.inv_cdf(min(max(below, margin), 1 - margin))
    edge = _NORMAL.inv_cdf((1 + LEVEL) / 2)
    low, high = np.percentile(drawn, [100 * _NORMAL.cdf(shift - edge), 100 * _NORMAL.cdf(shift + edge)])
    return float(low), float(high)


def percentiles(drawn: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of the plain percentile interval: for a statistic like a maximum, whose bias is part of what is shown."""
    low, high = np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def median_interval(values: Sequence[float], draws: int = 2000) -> tuple[float, float, float]:
    """Median of paired ratios or other repeated measurements, and the 95 % bootstrap interval of that median."""
    given = np.asarray(values)
    drawn = np.median(np.random.default_rng(0).choice(given, (draws, len(given))), axis=1)
    return float(np.median(given)), *percentiles(drawn)


Z95 = 1.959964


def expected_half_width(positives: Sequence[int], average_precision: float) -> float | None:
    """Half the width of the 95 % interval that mAP will have on a test set, as a fraction; None without positives.

    Each label's AP is taken as a share of its n positives, with variance AP(1 - AP)/n (the binomial interval of Boyd,
    Eng and Page, 2013), and the labels as independent of each other. On the VOC2012 validation set this is 10 to 20 %
    wider than the bootstrap over images, so it errs on the safe side.

    Args:
        positives: of each label; labels without any have no AP and do not count.
        average_precision: the level assumed for every label, 0 to 1.
    """
    counted = [count for count in positives if count > 0]
    if not counted:
        return None
    variance = sum(average_precision * (1 - average_precision) / count for count in counted)
    return Z95 * math.sqrt(variance) / len(counted)


def images_needed(images: int, half_width: float, wanted: float) -> int:
    """How many images of the same kind would bring the interval of mAP from `half_width` to `wanted` (fractions)."""
    return math.ceil(images * (half_width / wanted) ** 2)
