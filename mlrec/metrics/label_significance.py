"""Confidence intervals for the AP of each label, and paired tests corrected for the number of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mlrec.metrics.bootstrap import Bootstrap, Estimate, Runs, difference_of
from mlrec.metrics.intervals import Interval
from mlrec.metrics.precision_recall import FEW_POSITIVES


@dataclass(frozen=True)
class LabelInterval:
    """AP of one label with a confidence interval.

    Attributes:
        label: Name of the label.
        positives: Number of positives.
        interval: AP with its confidence interval; None for a label without positives or without negatives.
    """

    label: str
    positives: int
    interval: Interval | None

    @property
    def few(self) -> bool:
        """Whether there are fewer than 30 positives, so that the 95% confidence interval is too narrow."""
        return self.positives < FEW_POSITIVES


@dataclass(frozen=True)
class LabelTest(LabelInterval):
    """Difference in AP between two methods for one label.

    Attributes:
        interval: Difference in AP with its confidence interval; None for a label without positives or negatives.
        p: Two-sided p-value, from the normal approximation with the bootstrap standard deviation; None if undefined.
        p_holm: p-value after Holm's correction for the number of labels tested; None if undefined.
    """

    p: float | None
    p_holm: float | None


def label_intervals(scores: Runs, targets: ArrayLike, labels: Sequence[str], **options: Any) -> list[LabelInterval]:
    """Compute the confidence interval for the AP of each label, in the order of `labels`.

    See `bootstrap.metric_intervals`.
    """
    estimate = Bootstrap(targets, **options).estimate(scores)
    positives = (np.asarray(targets) == 1).sum(axis=0).tolist()
    return [LabelInterval(label, positives[c], estimate.label(c)) for c, label in enumerate(labels)]


def label_tests(ours: Runs, theirs: Runs, targets: ArrayLike, labels: Sequence[str], **options: Any) -> list[LabelTest]:
    """Test the AP difference `ours` minus `theirs` for each label, in the order of `labels`.

    See `bootstrap.paired_differences`.
    """
    return tests_of(difference_of(ours, theirs, Bootstrap(targets, **options)), targets, labels)


def tests_of(difference: Estimate, targets: ArrayLike, labels: Sequence[str]) -> list[LabelTest]:
    """Test the AP difference for each label, with resamples that have already been computed."""
    positives = (np.asarray(targets) == 1).sum(axis=0).tolist()
    intervals = [difference.label(c) for c in range(len(labels))]
    # Only labels with an interval are tested, so only they count in Holm's correction.
    p = {
        c: normal_p(interval.value, difference.resampled.average_precision[:, c])
        for c, interval in enumerate(intervals)
        if interval is not None
    }
    corrected = dict(zip(p, holm(list(p.values())), strict=True))
    return [LabelTest(label, positives[c], intervals[c], p.get(c), corrected.get(c)) for c, label in enumerate(labels)]


def normal_p(value: float, drawn: ArrayLike) -> float:
    """Return the two-sided p-value of a difference under a normal distribution.

    The standard deviation of the normal distribution is estimated with the bootstrap. Percentiles of 1,000 resamples
    cannot resolve p = 0.0005, which Holm's correction for 80 labels requires. If the standard deviation is 0, the
    p-value is 1 for a difference of 0, otherwise 0.
    """
    deviation = float(np.nanstd(np.asarray(drawn, dtype=np.float64)))
    if deviation == 0:
        return float(value == 0)
    return math.erfc(abs(value) / deviation / math.sqrt(2))


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for multiple tests with the method of Holm (1979).

    The smallest p-value is multiplied by n, the next by n - 1, and so on; corrected values never decrease and are at
    most 1.

    Example:
        >>> holm([0.5, 0.25, 0.125])
        [0.5, 0.5, 0.375]
    """
    corrected = [0.0] * len(p)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = highest
    return corrected
