"""Average precision (AP) of each label, and mAP of frequent, medium and rare labels.

AP measures how well the scores rank positives above negatives.

For each positive, AP needs the number of samples and the number of positives that score at least as high as this
positive. The counts are computed from sorted scores. Samples with equal scores (ties) are counted together, so the
order of the rows does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.metrics.conventions import Conventions

COLUMNS = 16  # a cache line of float32, so that each one is read once
# Largest number of positives in training of each group, as in Wu et al., ECCV 2020 (COCO-MLT, VOC-MLT).
GROUPS = {"tail": 19, "medium": 100, "head": math.inf}
GROUPS_NOTE = (
    "labels are grouped by their number of positives in training: head (more than 100), medium (20 to 100), "
    "tail (fewer than 20)"
)
Numbers = NDArray[np.number[Any]]


def average_precisions(
    scores: NDArray[np.floating[Any]], targets: NDArray[np.int8], conventions: Conventions
) -> NDArray[np.float64]:
    """Compute the AP of each label.

    Args:
        scores: (N, C) scores, higher for more probable labels. Scores are compared in their own dtype.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown).
        conventions: Scoring conventions, which define the kind of AP and the treatment of unknown targets.

    Returns:
        (C,) array of AP values from 0 to 1; NaN for a label without positives or without negatives.

    Example:
        >>> from mlrec.metrics.conventions import CONVENTIONS
        >>> scores, targets = np.array([[0.9], [0.8], [0.7]]), np.array([[1], [0], [1]])
        >>> average_precisions(scores, targets, CONVENTIONS["mlrec"]).round(4).tolist()
        [0.8333]
    """
    precisions = []
    for begin in range(0, scores.shape[1], COLUMNS):  # a few at a time: no second copy of all scores
        columns = slice(begin, begin + COLUMNS)
        for own, truth in zip(
            np.ascontiguousarray(scores[:, columns].T), np.ascontiguousarray(targets[:, columns].T), strict=True
        ):
            known = truth >= 0
            if conventions.unknown_in_ranking == "negative" or known.all():
                precisions.append(_average_precision(own, truth == 1, conventions))
            else:
                precisions.append(_average_precision(own[known], truth[known] == 1, conventions))
    return np.array(precisions, dtype=np.float64)


def _average_precision(
    scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_], conventions: Conventions
) -> float:
    hits = np.sort(scores[positive])
    # Equal scores share one step: each positive counts all samples that score at least as high.
    if hits.size in (0, scores.size):
        return np.nan
    hits_above = hits.size - np.searchsorted(hits, hits, side="left")
    all_above = scores.size - np.searchsorted(np.sort(scores), hits, side="left")
    return float(average_of_steps(hits_above, all_above, np.ones(hits.size), conventions))


def average_of_steps(
    hits_above: Numbers, all_above: Numbers, weights: Numbers, conventions: Conventions
) -> NDArray[np.float64]:
    """Compute AP from the counts of samples and positives ranked at or above each positive.

    Positives with equal scores can share one entry.

    Args:
        hits_above: (P, ...) array. Entry p is the total weight of the positives whose score is at least that of
            positive p. Positives are sorted by score, lowest first.
        all_above: (P, ...) array. Entry p is the total weight of all samples whose score is at least that of positive
            p.
        weights: (P, ...) array. Entry p is the weight of positive p: the number of times that positive p occurs in a
            resample, or the sum of these numbers if positives share the entry.
        conventions: Conventions that define the kind of AP.

    Returns:
        Array (...) of AP values from 0 to 1; NaN if the total weight of the positives is 0.
    """
    precision = hits_above / np.maximum(all_above, 1)
    total = np.asarray(hits_above[0], dtype=np.float64)
    defined = np.where(total > 0, total, np.nan)
    if conventions.average_precision == "all-points":
        return np.asarray((precision * weights).sum(axis=0) / defined)
    envelope = np.maximum.accumulate(precision, axis=0)
    if conventions.average_precision == "envelope":
        return np.asarray((envelope * weights).sum(axis=0) / defined)
    eleven = np.zeros(total.shape)
    for tenths in range(11):
        # recall >= tenths / 10 in integers, because the float 0.1 * 3 is greater than 3/10
        reached = (hits_above * 10 >= tenths * total).sum(axis=0, keepdims=True)
        eleven += np.take_along_axis(envelope, np.maximum(reached - 1, 0), axis=0)[0]
    return np.asarray(np.where(total > 0, eleven / 11, np.nan))


@dataclass(frozen=True)
class FrequencyGroup:
    """Group of labels with a similar number of training positives.

    Attributes:
        labels: Number of labels, including labels whose AP is undefined.
        mAP: Mean AP over the labels whose AP is defined, as a fraction; None if no AP is defined.
    """

    labels: int
    mAP: float | None


def frequency_group(positives: int) -> str:
    """Return the frequency group of a label with this number of training positives.

    Example:
        >>> [frequency_group(number) for number in (19, 20, 100, 101)]
        ['tail', 'medium', 'medium', 'head']
    """
    return next(name for name, most in GROUPS.items() if positives <= most)


def members_of_groups(labels: Iterable[str], positives: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the labels of each non-empty frequency group, from head to tail.

    Args:
        labels: Labels to group.
        positives: Number of positives of each label in the training split.
    """
    members: dict[str, list[str]] = {name: [] for name in reversed(GROUPS)}
    for label in labels:
        members[frequency_group(positives[label])].append(label)
    return {name: some for name, some in members.items() if some}


def by_frequency(
    average_precision: Mapping[str, float | None], positives: Mapping[str, int]
) -> dict[str, FrequencyGroup]:
    """Group labels into head, medium and tail by the number of training positives.

    Head labels have more than 100 positives in training, medium labels 20 to 100, and tail labels fewer than 20.

    Args:
        average_precision: AP of each label; None if undefined.
        positives: Number of positives of each label in the training split.

    Returns:
        The non-empty groups, from head to tail.

    Example:
        >>> groups = by_frequency({"car": 0.75, "bus": 0.5, "gnu": None}, {"car": 900, "bus": 20, "gnu": 3})
        >>> {name: (group.labels, group.mAP) for name, group in groups.items()}
        {'head': (1, 0.75), 'medium': (1, 0.5), 'tail': (1, None)}
    """
    return {
        name: FrequencyGroup(len(labels), _mean([average_precision[label] for label in labels]))
        for name, labels in members_of_groups(average_precision, positives).items()
    }


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    if not defined:
        return None
    return math.fsum(defined) / len(defined)
