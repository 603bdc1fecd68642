"""Search for labels whose AP is undefined in a split, because positives or negatives are missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import POSITIVE, UNKNOWN, Manifest
from mlrec.utils.errors import counted

NOT_SCORED = "so the AP of these labels is undefined"
NOT_LEARNED = "so a model trained on this split cannot learn them"


@dataclass(frozen=True)
class LabelGaps:
    """Labels whose AP is undefined in a split, because positives or negatives are missing.

    Attributes:
        split: Name of the split.
        labels: Total number of labels.
        no_positive: Labels without positives.
        no_negative: Labels with positives but without known negatives.
        always: Labels in `no_negative` that are positive in every sample.
    """

    split: str
    labels: int
    no_positive: tuple[str, ...]
    no_negative: tuple[str, ...]
    always: tuple[str, ...]

    def messages(self, consequence: str = NOT_SCORED) -> dict[str, str]:
        """Return a mapping from messages to label names, with one message per kind of gap.

        Each message is one sentence that contains the number of labels and `consequence`.
        """
        no_negative = ", ".join(self.no_negative)
        if self.always:
            no_negative += f"; positive in every sample: {', '.join(self.always)}"
        named = {}
        if self.no_positive:
            count = f"{len(self.no_positive)} of {counted(self.labels, 'label')}"
            named[f"split '{self.split}' has no positives for {count}, {consequence}"] = ", ".join(self.no_positive)
        if self.no_negative:
            count = f"{len(self.no_negative)} of {counted(self.labels, 'label')}"
            named[f"split '{self.split}' has no known negatives for {count}, {consequence}"] = no_negative
        return named

    def lines(self, consequence: str = NOT_SCORED) -> list[str]:
        """Return the messages as lines to print, each followed by the label names."""
        return [f"{sentence}: {labels}" for sentence, labels in self.messages(consequence).items()]


def label_gaps(manifest: Manifest) -> LabelGaps:
    """Find labels without positives or without known negatives.

    The result is empty if all labels are unknown.
    """
    targets, samples = manifest.sparse_targets, len(manifest)
    positives, unknowns = targets.counts(POSITIVE), targets.counts(UNKNOWN)
    some_known = bool((unknowns < samples).any())
    positive, negative = positives > 0, positives + unknowns < samples

    def names(chosen: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(manifest.labels[k] for k in np.flatnonzero(chosen)) if some_known else ()

    return LabelGaps(
        split=manifest.split,
        labels=len(manifest.labels),
        no_positive=names(~positive),
        no_negative=names(positive & ~negative),
        always=names(positive & ~negative & (unknowns == 0)),
    )
