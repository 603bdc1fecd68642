"""Which samples a model finds hard, and where its scores and the annotation disagree most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlrec.predictions import Floats

HARDEST = 24
PER_LABEL = 4
SURE = 1.0  # nats: a loss above that is a probability below 0.37 for what the annotation says


@dataclass(frozen=True)
class Example:
    """One sample and what is to be seen in it.

    Attributes:
        sample: its row.
        loss: of its labels, mean, or of the one label it is shown for; binary cross-entropy in nats.
        labels: names, what the annotation says (1 or 0) and the model's probability, the worst first.
    """

    sample: int
    loss: float
    labels: tuple[tuple[str, int, float], ...]


def hardest(logits: Floats, targets: NDArray[np.int8], labels: Sequence[str], number: int = HARDEST) -> list[Example]:
    """The samples of the highest mean loss over their known labels, each with its three worst labels."""
    losses = _losses(logits, targets)
    known = (~np.isnan(losses)).sum(axis=1)
    mean = np.where(known > 0, np.nansum(losses, axis=1) / np.maximum(known, 1), -np.inf)
    order = [int(k) for k in np.argsort(-mean, kind="stable")[:number] if np.isfinite(mean[k])]
    return [
        Example(k, float(mean[k]), tuple(_seen(k, int(c), logits, targets, labels) for c in _worst(losses[k], 3)))
        for k in order
    ]


def disagreements(
    logits: Floats, targets: NDArray[np.int8], labels: Sequence[str], number: int = PER_LABEL
) -> dict[str, list[Example]]:
    """For each label the samples in which a sure model and the annotation disagree most: errors of one or the other."""
    losses = _losses(logits, targets)
    found: dict[str, list[Example]] = {}
    for c, label in enumerate(labels):
        worst = [k for k in _worst(losses[:, c], number) if losses[k, c] > SURE]
        if worst:
            found[label] = [
                Example(int(k), float(losses[k, c]), (_seen(int(k), c, logits, targets, labels),)) for k in worst
            ]
    return found


def _losses(logits: Floats, targets: NDArray[np.int8]) -> NDArray[np.float64]:
    """(N, C) binary cross-entropy in nats, NaN where the label is unknown."""
    signed = np.where(targets == 1, -1.0, 1.0) * logits.astype(np.float64)
    return np.where(targets < 0, np.nan, np.logaddexp(0.0, signed))


def _worst(losses: NDArray[np.float64], number: int) -> NDArray[np.intp]:
    order = np.argsort(-losses, kind="stable")  # NaN last
    return order[~np.isnan(losses[order])][:number]


def _seen(
    sample: int, column: int, logits: Floats, targets: NDArray[np.int8], labels: Sequence[str]
) -> tuple[str, int, float]:
    with np.errstate(over="ignore"):
        probability = float(1 / (1 + np.exp(-np.float64(logits[sample, column]))))
    return labels[column], int(targets[sample, column]), probability
