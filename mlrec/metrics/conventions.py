"""Conventions of scoring: every rule by which two papers' numbers for one model can differ, in one place.

A rule is a field; a set of conventions is a value; the sets have names in `CONVENTIONS`. A number is only comparable
with another number scored under the same conventions, so every `Metrics` carries its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from mlrec.utils.errors import UsageError, nearest, printable

TOP_K = 3
ScoreKind = Literal["logits", "probabilities"]


@dataclass(frozen=True)
class Conventions:
    """How scores become metrics. Equal scores always share one step of the ranking, whatever the order of the rows.

    Attributes:
        name: what it is called, also on the command line.
        average_precision: `all-points`: the mean over positives of the precision at their own score; `envelope`: that
            precision replaced by the highest at the same or a larger recall (VOC 2010); `11-point`: the mean of that
            envelope at recall 0, 0.1 ... 1 (VOC 2007).
        ties: `grouped`: equal scores enter the ranking together.
        unknown_in_ranking: whether samples of which the label is unknown are left out of AP, or are negatives.
        unknown_in_counts: the same for precision, recall and F1.
        class_f1: CF1 as the F1 `of-means` CP and CR, or as the `mean` of the labels' F1.
        top_k: of the three highest labels of a sample those `above-threshold`, or `all` three.
        phantom: one prediction that was never made is added to OP's denominator for each label never predicted.
        threshold: the threshold at and above which a label is predicted, in words.
        scores: whether the scores were `logits` or `probabilities`.
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
        """One sentence for the foot of a table."""
        rules = [
            _AVERAGE_PRECISION[self.average_precision],
            "equal scores share one step",
            _unknown(self.unknown_in_ranking, self.unknown_in_counts),
            f"scores are {self.scores}, threshold {self.threshold}",
            "CF1 is the F1 of CP and CR" if self.class_f1 == "of-means" else "CF1 is the mean of the labels' F1",
            "top-3: the three highest labels"
            + (" that reach the threshold" if self.top_k == "above-threshold" else ""),
        ]
        if self.phantom:
            rules.append("OP counts one prediction for each label never predicted, as the paper's code does")
        rules.append("labels without a known positive or a known negative left out of mAP")
        rules.append("labels without positives left out of CR")
        if self.unknown_in_counts == "ignored":
            rules.append("labels unknown in every sample left out of all means")
        return f"conventions {self.name}: " + "; ".join(rules)


_AVERAGE_PRECISION = {
    "all-points": "AP not interpolated",
    "envelope": "AP under the precision envelope (VOC 2010)",
    "11-point": "AP at 11 points of the precision envelope (VOC 2007)",
}


def _unknown(ranking: str, counts: str) -> str:
    return f"unknown {ranking}" if ranking == counts else f"unknown {ranking} in AP, {counts} in P and R"


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
    """The conventions of this name; conventions themselves pass through.

    Raises:
        UsageError: no such name; says which there are.
    """
    if isinstance(name, Conventions):
        return name
    if name not in CONVENTIONS:
        known = ", ".join(CONVENTIONS)
        raise UsageError(f"no conventions '{printable(name)}'{nearest(str(name), CONVENTIONS)}; there are {known}")
    return CONVENTIONS[name]


def differences(one: Conventions, other: Conventions) -> list[str]:
    """The rules in which two sets of conventions differ, names apart."""
    ours, theirs = asdict(one), asdict(other)
    return [rule for rule in ours if rule != "name" and ours[rule] != theirs[rule]]
