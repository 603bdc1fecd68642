"""Per-label thresholds that maximize a target metric, chosen on a split other than the reported one.

A threshold separates the ranked samples of a label into predicted and not predicted. Only a threshold directly below a
positive can be optimal, so a label has one candidate per distinct score of its positives, plus one candidate that never
predicts the label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mlrec.metrics.conventions import CONVENTIONS
from mlrec.metrics.precision_recall import Counts, rates
from mlrec.utils.errors import UsageError, nearest

Target = Literal["CF1", "OF1", "F1", "precision"]
TARGETS: tuple[Target, ...] = get_args(Target)
LEAST_POSITIVES = 20
PRIOR = 20.0
_MIXES = np.linspace(0.0, 1.0, 201)
_COMMON = 1000  # candidates for the one threshold of all labels
Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Thresholds for the logits of each label.

    Attributes:
        values: (C,) array with the minimum logit of a predicted label; infinity means that the label is never
            predicted.
        own: (C,) bool array: True if the threshold is fitted to the label. Labels with too few positives use the common
            threshold.
        common: Best single threshold for all labels.
    """

    values: Numbers
    own: NDArray[np.bool_]
    common: float


@dataclass(frozen=True, eq=False)
class _Cuts:
    """Candidate thresholds of a label, highest first, and the counts at each candidate.

    `thresholds`, `predicted` and `correct` are (K,) arrays; `positive` and `known` are counts of the whole label.
    """

    thresholds: Numbers
    predicted: Numbers
    correct: Numbers
    positive: int
    known: int

    def smoothed(self, prior: float) -> Numbers:
        """Return the precision after adding `prior` virtual samples whose precision is the prevalence."""
        share = self.positive / max(self.known, 1)
        return np.asarray((self.correct + prior * share) / np.maximum(self.predicted + prior, 1))

    @property
    def precision(self) -> Numbers:
        return np.asarray(self.correct / np.maximum(self.predicted, 1))

    @property
    def recall(self) -> Numbers:
        return np.asarray(self.correct / max(self.positive, 1))

    @property
    def f1(self) -> Numbers:
        return np.asarray(2 * self.correct / np.maximum(self.predicted + self.positive, 1))


def find_thresholds(
    logits: NDArray[np.floating[Any]],
    targets: NDArray[np.int8],
    target: Target = "CF1",
    *,
    precision: float = 0.9,
    least: int = LEAST_POSITIVES,
    prior: float = PRIOR,
) -> Thresholds:
    """Find the thresholds that maximize a target metric on these samples.

    Args:
        logits: (N, C) finite logits.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown, ignored).
        target: Metric to maximize: `CF1`, `OF1` or `F1` (per label). With `precision`, the recall of each label is
            maximized, subject to the minimum precision in the argument `precision`. If no threshold of a
            label reaches this precision, the label is never predicted. Labels with the common threshold may have a
            lower precision.
        precision: Minimum precision for the target `precision`, above 0.
        least: Minimum number of positives for a label-specific threshold; other labels use the best common threshold.
        prior: Number of virtual samples that smooth the precision of each label for the target `CF1`. The precision of
            the virtual samples is the prevalence of the label. Without smoothing, a threshold could depend on the
            precision over a few samples, which does not generalize.

    Example:
        >>> logits, targets = np.array([[2.0], [1.0], [-1.0]]), np.array([[1], [1], [0]], np.int8)
        >>> find_thresholds(logits, targets, "F1", least=1).values.tolist()
        [0.0]
    """
    labels = [_label(logits[:, k], targets[:, k]) for k in range(logits.shape[1])]
    positives = np.array([hits.size for _, hits in labels])
    common = _common_threshold(labels, target, precision)
    own = positives >= least
    cuts = []
    for (scores, hits), has_own in zip(labels, own, strict=True):
        candidates = np.array([common])
        if has_own:
            candidates = _candidates(scores, hits)
        cuts.append(_cut(scores, hits, candidates))
    chosen = _CHOICES[target](cuts, prior if target == "CF1" else precision)
    return Thresholds(np.array([c.thresholds[k] for c, k in zip(cuts, chosen, strict=True)]), own, common)


def target_named(name: str) -> Target:
    """Return the target with this name (case-insensitive), or raise UsageError if there is no such target."""
    for known in TARGETS:
        if known.casefold() == name.casefold():
            return known
    raise UsageError(f"unknown target '{name}'; choose one of {', '.join(TARGETS)}{nearest(name, TARGETS)}")


def _label(scores: NDArray[np.floating[Any]], targets: NDArray[np.int8]) -> tuple[Numbers, Numbers]:
    """Return the scores of the samples with a known target, and the scores of the positives.

    Both arrays are in ascending order.
    """
    exact = scores.astype(np.float64)
    return np.sort(exact[targets >= 0]), np.sort(exact[targets == 1])


def _candidates(scores: Numbers, hits: Numbers) -> Numbers:
    """Return infinity and the midpoints between the score of each positive and the next lower score."""
    lowest = np.unique(hits)[::-1]  # only these: any other threshold predicts more samples, but no more positives
    below = np.searchsorted(scores, lowest, side="left") - 1
    next_lower = np.where(below >= 0, scores[np.maximum(below, 0)], lowest)
    return np.concatenate([[np.inf], (lowest + next_lower) / 2])


def _cut(scores: Numbers, hits: Numbers, thresholds: Numbers) -> _Cuts:
    predicted = scores.size - np.searchsorted(scores, thresholds, side="left")
    correct = hits.size - np.searchsorted(hits, thresholds, side="left")
    return _Cuts(thresholds, predicted.astype(np.float64), correct.astype(np.float64), hits.size, scores.size)


def _common_threshold(labels: Sequence[tuple[Numbers, Numbers]], target: Target, precision: float) -> float:
    """Return the best common threshold among up to a thousand quantiles of the positives' scores."""
    scores, hits = (np.sort(np.concatenate(parts)) for parts in zip(*labels, strict=True))
    candidates = _candidates(scores, hits)
    if len(candidates) > _COMMON:
        candidates = candidates[np.linspace(0, len(candidates) - 1, _COMMON).round().astype(np.intp)]
    if target == "precision":  # over all decisions: in a mean over labels, each rare label would dominate
        pooled = _cut(scores, hits, candidates)
        return float(candidates[_most_recall([pooled], precision)[0]])
    parts = [_cut(*label, candidates) for label in labels]
    counts = Counts(
        np.stack([part.predicted for part in parts], axis=-1),
        np.repeat([[part.positive for part in parts]], len(candidates), axis=0),
        np.stack([part.correct for part in parts], axis=-1),
        np.repeat([[part.known for part in parts]], len(candidates), axis=0),
    )
    conventions, metric = _COMMON_METRIC[target]
    values = rates(counts, CONVENTIONS[conventions])[metric]
    if np.isnan(values).all():
        return 0.0
    return float(candidates[int(np.nanargmax(values))])


def _best_f1(cuts: Sequence[_Cuts], _: float) -> list[int]:
    return [int(c.f1.argmax()) for c in cuts]


def _most_recall(cuts: Sequence[_Cuts], precision: float) -> list[int]:
    return [int(np.where(c.precision >= precision, c.recall, 0.0).argmax()) for c in cuts]


def _best_of1(cuts: Sequence[_Cuts], _: float) -> list[int]:
    """Return the candidates that maximize OF1, found with Dinkelbach's method (1967).

    Each iteration maximizes 2·correct - F·predicted for each label, where F is the best OF1 so far.
    """
    positive, reached = sum(c.positive for c in cuts), -1.0
    chosen = [0] * len(cuts)
    while True:
        better = [int((2 * c.correct - max(reached, 0.0) * c.predicted).argmax()) for c in cuts]
        picked = [(c.correct[k], c.predicted[k]) for c, k in zip(cuts, better, strict=True)]
        now = 2 * sum(correct for correct, _ in picked) / max(sum(predicted for _, predicted in picked) + positive, 1)
        if now <= reached:
            return chosen
        chosen, reached = better, now


def _best_cf1(cuts: Sequence[_Cuts], prior: float) -> list[int]:
    """Return the candidates with the highest CF1, found by maximizing weighted means of CP and CR.

    For a fixed weight, each label is optimized separately. CF1 increases with CP and CR, so the optimum is on the
    Pareto front of CP and CR. The weights trace the convex hull of this front; for C labels, the optimum is at most
    about 1/C away from the hull.
    """
    with_positives = max(sum(c.positive > 0 for c in cuts), 1)
    with_known = max(sum(c.known > 0 for c in cuts), 1)
    best, reached = [0] * len(cuts), -1.0
    precisions = [c.smoothed(prior) for c in cuts]
    for mix in _MIXES:
        chosen = [
            int((mix * precision / with_known + (1 - mix) * c.recall / with_positives).argmax())
            for c, precision in zip(cuts, precisions, strict=True)
        ]
        CP = sum(precision[k] for precision, k in zip(precisions, chosen, strict=True)) / with_known
        CR = sum(c.recall[k] for c, k in zip(cuts, chosen, strict=True)) / with_positives
        CF1 = 2 * CP * CR / ((CP + CR) or 1.0)
        if reached < CF1:
            best, reached = chosen, CF1
    return best


# Conventions and metric that one threshold for all labels maximizes.
_COMMON_METRIC: dict[Target, tuple[str, str]] = {
    "CF1": ("mlrec", "CF1"),
    "OF1": ("mlrec", "OF1"),
    "F1": ("macro-f1", "CF1"),
}
_CHOICES: dict[Target, Callable[[Sequence[_Cuts], float], list[int]]] = {
    "CF1": _best_cf1,
    "OF1": _best_of1,
    "F1": _best_f1,
    "precision": _most_recall,
}
