"""Label by label: intervals of AP, and paired tests corrected for how many labels are looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mlrec.metrics.bootstrap import Bootstrap, Estimate, Runs, difference_of
from mlrec.metrics.intervals import Interval

FEW_POSITIVES = 30


@dataclass(frozen=True)
class LabelInterval:
    """AP of one label.

    Attributes:
        label: its name.
        positives: how many the truth has.
        interval: None for a label without positives or without negatives.
    """

    label: str
    positives: int
    interval: Interval | None

    @property
    def few(self) -> bool:
        """Fewer than 30 positives: the interval is too narrow, it holds the truth less often than it says."""
        return self.positives < FEW_POSITIVES


@dataclass(frozen=True)
class LabelTest(LabelInterval):
    """The difference of two methods' AP in one label.

    Attributes:
        p: two-sided, by the normal approximation with the bootstrap's standard deviation; None where undefined.
        p_holm: the same after Holm's correction for the number of labels tested.
    """

    p: float | None
    p_holm: float | None


def label_intervals(scores: Runs, targets: ArrayLike, labels: Sequence[str], **options: Any) -> list[LabelInterval]:
    """The interval of each label's AP, in label order; arguments as in `bootstrap.metric_intervals`."""
    estimate = Bootstrap(targets, **options).estimate(scores)
    positives = (np.asarray(targets) == 1).sum(axis=0).tolist()
    return [LabelInterval(label, positives[c], estimate.label(c)) for c, label in enumerate(labels)]


def label_tests(ours: Runs, theirs: Runs, targets: ArrayLike, labels: Sequence[str], **options: Any) -> list[LabelTest]:
    """Ours minus theirs in each label's AP, in label order; arguments as in `bootstrap.paired_differences`."""
    return tests_of(difference_of(ours, theirs, Bootstrap(targets, **options)), targets, labels)


def tests_of(difference: Estimate, targets: ArrayLike, labels: Sequence[str]) -> list[LabelTest]:
    """The tests of each label of a difference that was drawn already."""
    positives = (np.asarray(targets) == 1).sum(axis=0).tolist()
    intervals = [difference.label(c) for c in range(len(labels))]
    p = [
        None if interval is None else normal_p(interval.value, difference.resampled.average_precision[:, c])
        for c, interval in enumerate(intervals)
    ]
    corrected = iter(holm([value for value in p if value is not None]))
    return [
        LabelTest(label, positives[c], intervals[c], p[c], None if p[c] is None else next(corrected))
        for c, label in enumerate(labels)
    ]


def normal_p(value: float, drawn: ArrayLike) -> float:
    """Two-sided p of a difference, taken as normal around 0 with the standard deviation of its resamples.

    A percentile of 1,000 resamples cannot say 0.0005, which Holm's correction of 80 labels needs; this can.
    """
    deviation = float(np.nanstd(np.asarray(drawn, dtype=np.float64)))
    if deviation == 0:
        return 1.0 if value == 0 else 0.0
    return math.erfc(abs(value) / deviation / math.sqrt(2))


def holm(p: Sequence[float]) -> list[float]:
    """The p values corrected by Holm (1979): smallest times n, next times n - 1 ..., never falling, at most 1."""
    corrected = [0.0] * len(p)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = highest
    return corrected
