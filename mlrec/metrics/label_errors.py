"""Samples that are hard, and annotations to review: where a model that has not seen a sample contradicts its labels.

How many annotations to review is estimated by confident learning (Northcutt, Jiang and Chuang, "Confident learning:
estimating uncertainty in dataset labels", 2021), for each label as a task of two classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN
from mlrec.predictions import probabilities_of

DOUBTFUL = 0.5  # the model and the annotation disagree at p >= 0.5
_EQUAL = 1e-6  # a probability this close to a threshold reaches it


@dataclass(frozen=True)
class LikelyError:
    """One label of one sample.

    Attributes:
        sample: position in the predictions.
        label: column.
        given: 1 or 0, as annotated.
        probability: of the label, by the model.
        doubt: how much the model speaks against the annotation, 0 to 1: 1 - probability of a given label, the
            probability of one that is not given.
    """

    sample: int
    label: int
    given: int
    probability: float
    error_score: float


def likely_errors(logits: ArrayLike, targets: NDArray[np.int8], most: int | None = None) -> list[LikelyError]:
    """Known labels by doubt, the most doubtful first; equal ones in the order of samples and labels.

    If the probabilities of a model trained on other samples are right, the doubt is the probability that the
    annotation is wrong, and this order finds the most errors among its first k, for every k.

    Args:
        logits: (N, C) of a model that was not trained on these samples.
        targets: (N, C); 1 positive, 0 negative; -1 unknown is nobody's error.
        most: so many at most.
    """
    values = np.asarray(logits, dtype=np.float64)
    signed = _against(values, targets)  # ranked as logits: doubts near 1 stay apart
    order = np.argsort(-signed, axis=None, kind="stable")[: int(np.count_nonzero(targets != UNKNOWN))]
    found = []
    for place in order[:most].tolist():
        sample, label = divmod(place, values.shape[1])
        found.append(
            LikelyError(
                sample=sample,
                label=label,
                given=int(targets[sample, label]),
                probability=float(probabilities_of(values[sample, label])),
                error_score=float(probabilities_of(signed[sample, label])),
            )
        )
    return found


@dataclass(frozen=True, eq=False)
class Review:
    """Which annotations are worth a look, and how many of them are expected to be wrong.

    Attributes:
        flags: (N, C) annotations to review.
        expected: (2, C) expected number of errors among the annotations that are 0 (missing labels) and 1 (wrong ones).
        enough: (C,) whether both values are annotated; without one of them nothing can be estimated.
    """

    flags: NDArray[np.bool_]
    expected: NDArray[np.float64]
    enough: NDArray[np.bool_]


def to_review(logits: ArrayLike, targets: NDArray[np.int8]) -> Review:
    """Annotations that the model confidently contradicts, by thresholds of each label.

    The model is confident of "positive" at the mean probability that it gives to annotated positives, of "negative"
    at the mean that it gives to annotated negatives; if of both, the more probable counts. So a model that is never
    sure of a label does not accuse all of its positives, as one threshold of 0.5 would. An annotation is one to review
    if the model is confident of the other value, and finds it more probable. The shares of confident annotations that
    contradict, and that agree, give the expected number of errors. Within a label the annotations to review are the
    first of `likely_errors`.

    Args:
        logits: (N, C) of a model that was not trained on these samples.
        targets: (N, C); 1 positive, 0 negative, -1 unknown (never to review).
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
    """(N,) annotations of one label to review, and the expected number of errors among those that are 0 and 1."""
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
    """At most so many samples, the highest binary cross-entropy first: the mean over their known labels.

    Args:
        logits: (N, C).
        targets: (N, C); 1 positive, 0 negative, -1 unknown. A sample of which nothing is known is not among them.
        most: how many.
    """
    losses = np.logaddexp(0.0, _against(np.asarray(logits, dtype=np.float64), targets))  # 0 where unknown
    known = (targets != UNKNOWN).sum(axis=1)
    means = losses.sum(axis=1) / np.maximum(known, 1)
    return [int(k) for k in np.argsort(-means, kind="stable") if known[k]][:most]


def precision_at(found: Sequence[LikelyError], wrong: NDArray[np.bool_], k: int) -> float:
    """Share of the first k suspects that are in `wrong` (N, C): to measure the ranking where errors were planted."""
    return float(np.mean([wrong[suspect.sample, suspect.label] for suspect in found[:k]]))


def _against(logits: NDArray[np.float64], targets: NDArray[np.int8]) -> NDArray[np.float64]:
    """What the model says against the annotation, as logits; minus infinity where the label is unknown."""
    signed = np.where(targets == POSITIVE, -logits, logits)
    return np.where(targets == UNKNOWN, -np.inf, signed)
