"""Scoring conventions: the rules by which metrics are computed from scores.

Different rules give different numbers for the same model. Each rule is a field of `Conventions`; `CONVENTIONS` contains
named sets of rules. Two numbers are comparable only if they were computed under the same conventions, so every
`Metrics` object stores its conventions. The kind of the scores (logits or probabilities) is specified by the user or
inferred from the values.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlrec.utils.errors import PredictionsError, UsageError, nearest

TOP_K = 3
ScoreKind = Literal["logits", "probabilities"]
TOLERANCE = 1e-4  # rounding: probabilities may be outside of [0, 1] by this much, and are clipped
THRESHOLDS: dict[ScoreKind, float] = {"logits": 0.0, "probabilities": 0.5}
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Conventions:
    """Rules for computing metrics from scores.

    In AP, equal scores always share one rank, regardless of the order of the rows.

    Attributes:
        name: Name of this set of rules, which is also used on the command line.
        average_precision: Kind of AP. `all-points`: mean of the precisions at the scores of the positives. `envelope`:
            the same mean, but each precision is replaced by the highest precision at an equal or higher recall (VOC
            2010). `11-point`: mean of the envelope at the recalls 0, 0.1, ..., 1 (VOC 2007).
        ties: Treatment of equal scores. `grouped`: equal scores share one rank.
        unknown_in_ranking: Whether samples with an unknown label are `ignored` by AP, or counted as `negative`.
        unknown_in_counts: Whether samples with an unknown label are `ignored` by precision, recall and F1, or counted
            as `negative`.
        class_f1: Definition of CF1. `of-means`: harmonic mean of CP and CR. `mean`: mean of the F1 values of the
            labels.
        top_k: Which of the K highest-scoring labels of a sample are counted as predicted; K is 3 for top-3.
            `above-threshold`: only labels that reach the threshold. `all`: all K labels.
        phantom: Whether the denominator of OP is increased by 1 for each label that is never predicted. Labels that are
            excluded from CP are not counted.
        threshold: Text that describes the minimum score of a predicted label.
        scores: Kind of the scores, `logits` or `probabilities`.
    """

    name: str
    average_precision: Literal["all-points", "envelope", "11-point"] = "all-points"
    ties: Literal["grouped"] = "grouped"
    unknown_in_ranking: Literal["ignored", "negative"] = "ignored"
    unknown_in_counts: Literal["ignored", "negative"] = "ignored"
    class_f1: Literal["of-means", "mean"] = "of-means"
    top_k: Literal["above-threshold", "all"] = "above-threshold"
    phantom: bool = False
    threshold: str = "p >= 0.5"
    scores: ScoreKind = "logits"

    def in_words(self) -> str:
        """Describe the conventions in one sentence, for the footnote of a table.

        Example:
            >>> CONVENTIONS["voc2010"].in_words()[:71]
            'conventions voc2010: AP under the precision envelope (VOC 2010); tied s'
        """
        rules = [
            _AVERAGE_PRECISION[self.average_precision],
            "tied scores share one step",
            _unknown(self.unknown_in_ranking, self.unknown_in_counts),
            f"scores are {self.scores}, threshold: {self.threshold}",
            _CLASS_F1[self.class_f1],
            _TOP_K[self.top_k],
        ]
        if self.phantom:
            rules.append("OP counts one prediction for each label that is never predicted, as in the paper's code")
        rules.append("labels without a known positive or a known negative are excluded from mAP")
        rules.append("labels without positives are excluded from CR")
        if self.unknown_in_counts == "ignored":
            rules.append("labels unknown in every sample are excluded from all means")
        return f"conventions {self.name}: " + "; ".join(rules)


_AVERAGE_PRECISION = {
    "all-points": "AP without interpolation",
    "envelope": "AP under the precision envelope (VOC 2010)",
    "11-point": "AP at 11 points on the precision envelope (VOC 2007)",
}


_CLASS_F1 = {"of-means": "CF1 is the F1 of CP and CR", "mean": "CF1 is the mean of the per-label F1"}
_TOP_K = {
    "above-threshold": "top-3: the three highest-scoring labels that reach the threshold",
    "all": "top-3: the three highest-scoring labels",
}


def _unknown(ranking: str, counts: str) -> str:
    if ranking == counts:
        return f"unknown {ranking}"
    return f"unknown {ranking} in AP, {counts} in P and R"


# Sources: the paper's own code for VOC and COCO and for WIDER-Attribute; the VOC development kits of 2007 and 2010;
# `macro-f1` is what scikit-learn, torchmetrics, ASL and mmpretrain call macro F1; `topk-pure` is mmpretrain's top-k.
CONVENTIONS: dict[str, Conventions] = {
    convention.name: convention
    for convention in (
        Conventions("mlrec"),
        Conventions("csra", phantom=True),
        Conventions("csra-wider", phantom=True, unknown_in_counts="negative"),
        Conventions("macro-f1", class_f1="mean"),
        Conventions("voc2010", average_precision="envelope"),
        Conventions("voc2007-11pt", average_precision="11-point"),
        Conventions("topk-pure", top_k="all"),
    )
}


def conventions_named(name: str | Conventions) -> Conventions:
    """Return the conventions with this name; a `Conventions` object is returned unchanged.

    Raises:
        UsageError: There are no conventions with this name; the message lists the known names.

    Example:
        >>> conventions_named("csra").phantom
        True
    """
    if isinstance(name, Conventions):
        return name
    if name not in CONVENTIONS:
        known = ", ".join(CONVENTIONS)
        raise UsageError(f"'{name}' is not one of the conventions {known}{nearest(str(name), CONVENTIONS)}")
    return CONVENTIONS[name]


def differences(one: Conventions, other: Conventions) -> list[str]:
    """Return the names of the fields, except `name`, that differ between two sets of conventions."""
    ours, theirs = asdict(one), asdict(other)
    return [rule for rule in ours if rule != "name" and ours[rule] != theirs[rule]]


def implied_kind(values: Floats) -> ScoreKind | None:
    """Infer the kind of the scores: "logits" if a value is negative, or None if the kind is ambiguous.

    The kind is ambiguous if all values are in [0, 1]. Values outside [0, 1] by at most `TOLERANCE` count as inside. NaN
    and infinite values are ignored.

    Raises:
        PredictionsError: No value is negative, but a value is above 1, for example because the values are percentages.

    Example:
        >>> implied_kind(np.array([-2.0, 0.5])), implied_kind(np.array([0.1, 0.5]))
        ('logits', None)
    """
    low, high = _range(values)
    if low < -TOLERANCE:
        return "logits"
    if high > 1 + TOLERANCE:
        raise PredictionsError(
            f"scores range from {low:g} to {high:g}, but probabilities range from 0 to 1; divide percentages by "
            "100, or declare the scores as logits (--logits, or scores='logits' in Python)"
        )
    return None


def check_kind(kind: str | None) -> None:
    """Raise UsageError unless `kind` is a kind of scores, or None."""
    if kind is not None and kind not in THRESHOLDS:
        raise UsageError(f"scores must be 'logits' or 'probabilities', but got '{kind}'")


def clipped(probabilities: Floats) -> tuple[Floats, int]:
    """Clip probabilities that are outside [0, 1] only because of rounding errors.

    Returns:
        Clipped probabilities with the same dtype, and the number of values that were clipped.

    Raises:
        PredictionsError: A value is outside [0, 1] by more than `TOLERANCE`.

    Example:
        >>> clipped(np.array([0.5, 1.00001]))
        (array([0.5, 1. ]), 1)
    """
    low, high = _range(probabilities)
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        value = high if high > 1 + TOLERANCE else low
        raise PredictionsError(
            f"a score of {value:g} is not a probability from 0 to 1; divide percentages by 100, or declare the scores "
            "as logits"
        )
    if low >= 0 and high <= 1:
        return probabilities, 0
    outside = int(np.count_nonzero((probabilities < 0) | (probabilities > 1)))
    return np.clip(probabilities, 0, 1), outside


def _range(values: Floats) -> tuple[float, float]:
    """Return the lowest and the highest finite value, or 0 and 0 if there are no finite values."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 0.0
    return float(finite.min()), float(finite.max())
