"""Average precision (AP) of each label.

AP measures how well the scores rank positives above negatives.

For each positive, AP needs two counts: the samples and the positives whose score is at least as high. Both counts are
computed from sorted scores. Equal scores (ties) therefore share one step, and the order of the rows does not matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.metrics.conventions import Conventions

COLUMNS = 16  # a cache line of float32, so that each one is read once
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

    Args:
        hits_above: (P, ...) array. Entry p is the total weight of the positives whose score is at least that of
            positive p. Positives are sorted by score, lowest first.
        all_above: (P, ...) array. Entry p is the total weight of all samples whose score is at least that of positive
            p.
        weights: (P, ...) array. Entry p is the weight of positive p, which is the number of times it occurs in a
            resample.
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
