"""Precision, recall and F1 of predicted labels, per label and overall.

CP and CR are means over labels; OP, OR and OF1 are computed over all sample-label pairs. Rates for the K
highest-scoring labels of each sample are also supported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.metrics.conventions import TOP_K, Conventions

FEW_POSITIVES = 30  # with fewer, the AP of a label depends mostly on which images were drawn
CELLS = 2**22  # of a block
FEW_SEARCHES = 8  # up to so many maxima, one search each is faster than sorting the labels of each sample
RATES = ("CP", "CR", "CF1", "OP", "OR", "OF1")
Threshold = float | NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Sample counts for each label, as arrays (..., C); the leading axes are resamples.

    Attributes:
        predicted: Number of samples predicted positive.
        positive: Number of positive samples.
        correct: Number of positive samples predicted positive.
        known: Number of counted samples; a label without known samples is excluded from every mean.
    """

    predicted: NDArray[np.number[Any]]
    positive: NDArray[np.number[Any]]
    correct: NDArray[np.number[Any]]
    known: NDArray[np.number[Any]]


def decide(scores: NDArray[np.floating[Any]], threshold: Threshold) -> NDArray[np.bool_]:
    """Return the predicted labels as an (N, C) bool array: True if the score reaches the threshold.

    The threshold is one number, or a (C,) array with one number per label.
    """
    return np.asarray(scores >= threshold)


def decide_top_k(
    scores: NDArray[np.floating[Any]], threshold: Threshold, conventions: Conventions, k: int = TOP_K
) -> NDArray[np.bool_]:
    """Return the `k` highest-scoring labels of each sample that reach the threshold.

    The result is an (N, C) bool array. If `conventions.top_k` is `all`, the threshold is ignored. In case of ties, the
    label with the lowest index comes first. The `k` labels can include unknown labels.
    """
    chosen = np.zeros(scores.shape, dtype=np.bool_)
    if k <= FEW_SEARCHES:
        left, rows = scores.copy(), np.arange(len(scores))
        for _ in range(min(k, scores.shape[1])):
            highest = left.argmax(axis=1)
            chosen[rows, highest] = True
            left[rows, highest] = -np.inf
    else:
        np.put_along_axis(chosen, np.argsort(-scores, axis=1, kind="stable")[:, :k], True, axis=1)
    return chosen if conventions.top_k == "all" else chosen & decide(scores, threshold)


def tally(
    decisions: NDArray[np.bool_], targets: NDArray[np.int8], conventions: Conventions
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return one (N, C) bool array for each field of `Counts`; the sum over samples gives the field.

    The conventions determine how unknown samples are counted.
    """
    positive = targets == 1
    known = targets >= 0
    if conventions.unknown_in_counts == "negative":
        known = np.ones(targets.shape, dtype=np.bool_)
    return decisions & known, positive, decisions & positive, known


def count(decisions: NDArray[np.bool_], targets: NDArray[np.int8], conventions: Conventions) -> Counts:
    """Count the predicted, positive, correct and known samples of each label."""
    return Counts(*(flags.sum(axis=0, dtype=np.int64) for flags in tally(decisions, targets, conventions)))


def label_rates(counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Compute precision, recall and F1 of each label (..., C), as fractions.

    Precision is 0 for a label that is never predicted, and NaN for a label without a known sample. Recall and F1 are
    NaN for a label without a positive. The means of the three values over labels, ignoring NaN, are CP, CR and CF1
    (with `class_f1` set to `mean`).
    """
    precision = _ratio(counts.correct, np.maximum(counts.predicted, 1))
    recall = _ratio(counts.correct, np.where(counts.positive > 0, counts.positive, np.nan))
    return np.where(counts.known > 0, precision, np.nan), recall, _f1(precision, recall)


def count_decisions(
    scores: NDArray[np.floating[Any]], targets: NDArray[np.int8], threshold: Threshold, conventions: Conventions
) -> tuple[Counts, Counts]:
    """Return the counts for labels that reach the threshold, and the counts for the top-3 labels."""
    above, top = [], []
    for rows in row_blocks(scores.shape):
        block, truth = scores[rows], targets[rows]
        above.append(count(decide(block, threshold), truth, conventions))
        top.append(count(decide_top_k(block, threshold, conventions), truth, conventions))
    return _sum(above), _sum(top)


def count_top_k(
    scores: NDArray[np.floating[Any]],
    targets: NDArray[np.int8],
    threshold: Threshold,
    conventions: Conventions,
    k: int,
) -> Counts:
    """Count the labels predicted by `decide_top_k`, in blocks of samples."""
    return _sum(
        [
            count(decide_top_k(scores[rows], threshold, conventions, k), targets[rows], conventions)
            for rows in row_blocks(scores.shape)
        ]
    )


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Iterate over row blocks of an (N, C) array, to limit the memory used by intermediate results.

    Example:
        >>> list(row_blocks((3, 2**22)))
        [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    samples, labels = shape
    rows = max(CELLS // max(labels, 1), 1)
    return (slice(begin, min(begin + rows, samples)) for begin in range(0, max(samples, 1), rows))


def _sum(parts: Sequence[Counts]) -> Counts:
    return Counts(*(np.sum([getattr(part, field.name) for part in parts], axis=0) for field in fields(Counts)))


def rates(counts: Counts, conventions: Conventions) -> dict[str, NDArray[np.float64]]:
    """Compute CP, CR, CF1, OP, OR and OF1 as fractions; NaN if undefined.

    CP is the mean precision over labels with a known sample, with 0 for labels that are never predicted. CR is the mean
    recall over labels with a positive. CF1 is the harmonic mean of CP and CR (or, if `conventions.class_f1` is `mean`,
    the mean F1 over labels with a positive), and OF1 is the harmonic mean of OP and OR. A harmonic mean is 0 if both
    values are 0. If no label is known, all rates are NaN.
    """
    precision, recall, F1 = label_rates(counts)
    has_positive, has_known = counts.positive > 0, counts.known > 0
    CP = _mean(precision, has_known)
    CR = _mean(recall, has_positive)
    CF1 = _f1(CP, CR)
    if conventions.class_f1 == "mean":
        CF1 = _mean(F1, has_positive)
    predicted = counts.predicted
    if conventions.phantom:  # the paper's code counts one prediction for each label that is never predicted
        predicted = np.maximum(predicted, has_known)
    made = predicted.sum(axis=-1)
    correct, positive = counts.correct.sum(axis=-1), counts.positive.sum(axis=-1)
    OP = _ratio(correct, np.where(has_known.any(axis=-1), np.maximum(made, 1), np.nan))
    OR = _ratio(correct, np.where(positive > 0, positive, np.nan))
    return {"CP": CP, "CR": CR, "CF1": CF1, "OP": OP, "OR": OR, "OF1": _f1(OP, OR)}


def _ratio(part: NDArray[np.number[Any]], whole: NDArray[np.number[Any]]) -> NDArray[np.float64]:
    return np.asarray(part / whole, dtype=np.float64)


def _mean(values: NDArray[np.float64], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute the mean along the last axis of the values selected by `where`; NaN if there are none."""
    number = where.sum(axis=-1)
    return _ratio(np.where(where, values, 0.0).sum(axis=-1), np.where(number > 0, number, np.nan))


def _f1(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> NDArray[np.float64]:
    total = precision + recall
    return np.asarray(2 * precision * recall / np.where(total == 0, 1.0, total), dtype=np.float64)
