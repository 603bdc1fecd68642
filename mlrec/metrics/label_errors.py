"""Likely label errors and hard samples, found with a model that was not trained on these samples.

The number of annotations to review is estimated by confident learning (Northcutt, Jiang and Chuang, "Confident
learning: estimating uncertainty in dataset labels", 2021), which treats each label as a binary task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN
from mlrec.predictions import probabilities_of

DOUBTFUL = 0.5  # the model and the annotation disagree at p >= 0.5
_EQUAL = 1e-6  # a probability this close below a threshold counts as reaching it


@dataclass(frozen=True)
class LikelyError:
    """Annotated label of a sample that may be wrong.

    Attributes:
        sample: Row of the sample in the predictions.
        label: Column of the label in the predictions.
        given: Annotated target, 1 or 0.
        probability: Predicted probability of the label.
        error_score: Predicted probability that the annotation is wrong, from 0 to 1. The score is 1 - `probability` for
            an annotated positive and `probability` for an annotated negative.
    """

    sample: int
    label: int
    given: int
    probability: float
    error_score: float


def likely_errors(logits: ArrayLike, targets: NDArray[np.int8], most: int | None = None) -> list[LikelyError]:
    """Rank the known labels by error score, highest first; ties are ordered by sample, then by label.

    If the probabilities of a model trained on other samples are calibrated, the error score is the probability that the
    annotation is wrong. With calibrated probabilities, reviewing the k highest-ranked labels maximizes the expected
    number of errors found, for any k.

    Args:
        logits: (N, C) logits of a model that was not trained on these samples.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown, never an error).
        most: Maximum number of labels to return; None returns all.

    Example:
        >>> errors = likely_errors([[2.0, -1.0], [3.0, 4.0]], np.array([[0, 0], [1, -1]]), most=1)
        >>> errors[0].sample, errors[0].label, round(errors[0].error_score, 2)
        (0, 0, 0.88)
    """
    values = np.asarray(logits, dtype=np.float64)
    signed = _against(values, targets)  # ranked as logits: error scores near 1 stay distinct
    order = np.argsort(-signed, axis=None, kind="stable")[: int(np.count_nonzero(targets != UNKNOWN))]
    errors = []
    for place in order[:most].tolist():
        sample, label = divmod(place, values.shape[1])
        errors.append(
            LikelyError(
                sample=sample,
                label=label,
                given=int(targets[sample, label]),
                probability=float(probabilities_of(values[sample, label])),
                error_score=float(probabilities_of(signed[sample, label])),
            )
        )
    return errors


@dataclass(frozen=True, eq=False)
class Review:
    """Annotations to review, and the expected number of errors.

    Attributes:
        flags: (N, C) bool array: True if the annotation should be reviewed.
        expected: (2, C) array with the expected number of wrong annotations of each label. Row 0: annotated negatives
            (missing labels); row 1: annotated positives (wrong labels).
        enough: (C,) bool array: True if the label has both annotated positives and annotated negatives. Otherwise,
            errors cannot be estimated; `flags` are False and `expected` is 0.
    """

    flags: NDArray[np.bool_]
    expected: NDArray[np.float64]
    enough: NDArray[np.bool_]


def to_review(logits: ArrayLike, targets: NDArray[np.int8]) -> Review:
    """Find annotations that the model confidently contradicts, with separate thresholds for each label.

    The model is confident that a label is positive if the predicted probability is at least the mean probability over
    annotated positives. The model is confident that a label is negative if the predicted probability of the negative
    target is at least the mean over annotated negatives. If the model is confident in both targets, the more probable
    target is used. With a single threshold of 0.5, all positives of a label would be flagged if their probabilities are
    low. An annotation should be reviewed if the model is confident in the opposite target and the opposite target is
    more probable. The expected number of errors follows from the fractions of confident predictions that contradict and
    confirm the annotations. Among the annotated positives of a label, and among its annotated negatives, the
    annotations to review are the first ones in `likely_errors`.

    Args:
        logits: (N, C) logits of a model that was not trained on these samples.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown, never reviewed).
    """
    values = np.asarray(logits, dtype=np.float64)
    flags = np.zeros(values.shape, dtype=np.bool_)
    expected = np.zeros((2, values.shape[1]))
    enough = (targets == POSITIVE).any(axis=0) & (targets == NEGATIVE).any(axis=0)
    for label in np.flatnonzero(enough):
        known = np.flatnonzero(targets[:, label] != UNKNOWN)
        contradicted, expected[:, label] = _contradicted(values[known, label], targets[known, label])
        flags[known, label] = contradicted
    return Review(flags, expected, enough)


def _contradicted(logits: NDArray[np.float64], given: NDArray[np.int8]) -> tuple[NDArray[np.bool_], list[float]]:
    """Return the annotations of one label that should be reviewed, and the expected numbers of errors.

    The annotations are returned as an (N,) mask. Errors are counted separately for the annotations 0 and 1.
    """
    each = np.stack([probabilities_of(-logits), probabilities_of(logits)])  # (2, N): of negative, of positive
    confident = np.stack([each[value] >= each[value][given == value].mean() - _EQUAL for value in (0, 1)])
    likely = np.where(confident.all(axis=0), each[1] > each[0], confident[1]).astype(np.int8)
    sure = confident.any(axis=0)
    contradicted = sure & (likely != given)
    expected = []
    for value in (0, 1):
        annotated = given == value
        wrong = int((contradicted & annotated).sum())
        right = max(int((sure & ~contradicted & annotated).sum()), 1)
        expected.append(int(annotated.sum()) * wrong / (wrong + right))
    return contradicted & ((logits > 0) != given), expected


def hardest(logits: ArrayLike, targets: NDArray[np.int8], most: int) -> list[int]:
    """Find the samples with the highest binary cross-entropy.

    The cross-entropy is averaged over the known labels of each sample.

    Args:
        logits: (N, C) logits.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown). Samples without known labels are skipped.
        most: Maximum number of samples.

    Returns:
        Positions of the samples, highest cross-entropy first.
    """
    losses = np.logaddexp(0.0, _against(np.asarray(logits, dtype=np.float64), targets))  # 0 where unknown
    known = (targets != UNKNOWN).sum(axis=1)
    means = losses.sum(axis=1) / np.maximum(known, 1)
    return [int(k) for k in np.argsort(-means, kind="stable") if known[k]][:most]


def precision_at(errors: Sequence[LikelyError], wrong: NDArray[np.bool_], k: int) -> float:
    """Compute precision at k: the fraction of the first k likely errors that are true errors.

    The true errors are marked in `wrong` (N, C), for example errors that were injected for a test.
    """
    return float(np.mean([wrong[error.sample, error.label] for error in errors[:k]]))


def _against(logits: NDArray[np.float64], targets: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return the logits of the target opposite to the annotation; negative infinity for unknown labels."""
    signed = np.where(targets == POSITIVE, -logits, logits)
    return np.where(targets == UNKNOWN, -np.inf, signed)
