"""Samples that are hard, and labels that are likely wrong: what a model that has not seen a sample says against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlrec.datasets.manifest import POSITIVE, UNKNOWN

DOUBTFUL = 0.5  # a label doubted less than that is rather right than wrong


@dataclass(frozen=True)
class Suspect:
    """One label of one sample.

    Attributes:
        sample: position in the predictions.
        label: column.
        given: 1 (likely wrong) or 0 (likely missing), as annotated.
        probability: of the label, by the model.
        doubt: how much the model speaks against the annotation, 0 to 1: 1 - probability of a given label, the
            probability of one that is not given.
    """

    sample: int
    label: int
    given: int
    probability: float
    doubt: float


def suspects(logits: ArrayLike, targets: NDArray[np.int8], most: int | None = None) -> list[Suspect]:
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
            Suspect(
                sample=sample,
                label=label,
                given=int(targets[sample, label]),
                probability=float(_sigmoid(values[sample, label])),
                doubt=float(_sigmoid(signed[sample, label])),
            )
        )
    return found


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


def precision_at(found: Sequence[Suspect], wrong: NDArray[np.bool_], k: int) -> float:
    """Share of the first k suspects that are in `wrong` (N, C): to measure the ranking where errors were planted."""
    return float(np.mean([wrong[suspect.sample, suspect.label] for suspect in found[:k]]))


def _against(logits: NDArray[np.float64], targets: NDArray[np.int8]) -> NDArray[np.float64]:
    """What the model says against the annotation, as logits; minus infinity where the label is unknown."""
    signed = np.where(targets == POSITIVE, -logits, logits)
    return np.where(targets == UNKNOWN, -np.inf, signed)


def _sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit))) if logit >= 0 else float(np.exp(logit) / (1 + np.exp(logit)))
