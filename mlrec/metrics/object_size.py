"""AP by how large the objects of a label are, and by how many of them an image shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import POSITIVE, UNKNOWN
from mlrec.datasets.objects import Objects
from mlrec.metrics.bootstrap import Runs, paired_difference, runs_of
from mlrec.metrics.evaluate import evaluate
from mlrec.metrics.intervals import Interval


@dataclass(frozen=True, eq=False)
class Extents:
    """Of each sample and label (N, C): share of the image that its largest object covers, and how many objects.

    NaN and 0 where none is annotated. Regions that are annotated as many objects at once (crowds) have no size of
    their own, and count as `MANY`.
    """

    labels: tuple[str, ...]
    share: NDArray[np.float64]
    number: NDArray[np.int64]

    def columns(self, labels: Sequence[str]) -> Extents:
        """Those of these labels, in this order."""
        places = [self.labels.index(label) for label in labels]
        return Extents(tuple(labels), self.share[:, places], self.number[:, places])


MANY = 100
SIZES = (("< 1 % of the image", 0.0, 0.01), ("1-5 %", 0.01, 0.05), ("5-20 %", 0.05, 0.2), ("≥ 20 %", 0.2, math.inf))
NUMBERS = (("1 object", 1, 2), ("2-3", 2, 4), ("≥ 4", 4, math.inf))


def extents(objects: Sequence[Objects], labels: Sequence[str]) -> Extents:
    """Sizes and numbers of the objects that make a label positive: difficult ones (VOC) do not.

    Args:
        objects: of each sample.
        labels: C names, that the objects' label numbers count in.
    """
    share = np.full((len(objects), len(labels)), np.nan)
    number = np.zeros((len(objects), len(labels)), dtype=np.int64)
    for row, found in enumerate(objects):
        counted = ~found.difficult
        np.add.at(number[row], found.labels[counted], np.where(found.crowd[counted], MANY, 1))
        alone = counted & ~found.crowd
        if found.size is not None and alone.any():
            relative = found.areas[alone] / (found.size[0] * found.size[1])
            np.fmax.at(share[row], found.labels[alone], relative)
    return Extents(tuple(labels), share, number)


@dataclass(frozen=True)
class SizeBin:
    """Positives of one kind against all negatives.

    Attributes:
        kind: "size" or "number".
        pairs, labels: how many positive pairs of sample and label it holds, and of how many labels.
        mAP: of each method, the mean over its runs.
        gains: of each method but the first, the difference to the first with its interval.
    """

    kind: str
    name: str
    pairs: int
    labels: int
    mAP: tuple[float | None, ...]
    gains: tuple[Interval | None, ...]


def ap_by_size(
    methods: Sequence[Runs],
    targets: NDArray[np.int8],
    found: Extents,
    *,
    resamples: int,
    **options: Any,
) -> list[SizeBin]:
    """The mAP of each method in each stratum, positives of the others left out.

    Strata have different shares of positives, on which AP depends: methods may be compared in a row, rows may not.

    Args:
        methods: (N, C) logits of each, or a list of such with different seeds, on the same samples; the first is what
            the others are compared with.
        targets: (N, C); 1 positive, 0 negative, -1 unknown.
        found: of the same samples.
        resamples: of the intervals; 0 for none.
        **options: of the bootstrap, see `metric_intervals`.
    """
    kinds: list[tuple[str, Sequence[tuple[str, float, float]], NDArray[Any]]] = [
        ("size", SIZES, found.share), ("number", NUMBERS, found.number)
    ]  # fmt: skip
    return [
        _stratum(kind, name, methods, _inside(targets, (values >= low) & (values < high)), resamples, options)
        for kind, bins, values in kinds
        for name, low, high in bins
    ]


def _inside(targets: NDArray[np.int8], inside: NDArray[np.bool_]) -> NDArray[np.int8]:
    """The targets with the positives outside of the stratum unknown."""
    return np.where((targets == POSITIVE) & ~inside, np.int8(UNKNOWN), targets)


def _stratum(
    kind: str,
    name: str,
    methods: Sequence[Runs],
    targets: NDArray[np.int8],
    resamples: int,
    options: dict[str, Any],
) -> SizeBin:
    positive = targets == POSITIVE
    gains = tuple(
        paired_difference(logits, methods[0], targets, resamples=resamples, **options) if resamples else None
        for logits in methods[1:]
    )
    return SizeBin(
        kind=kind,
        name=name,
        pairs=int(positive.sum()),
        labels=int(positive.any(axis=0).sum()),
        mAP=tuple(_mean_mAP(runs, targets) for runs in methods),
        gains=gains,
    )


def _mean_mAP(runs: Runs, targets: NDArray[np.int8]) -> float | None:  # noqa: N802 - the metric's name
    found = [evaluate(logits, targets, scores="logits").mAP for logits in runs_of(runs)]
    known = [value for value in found if value is not None]
    return math.fsum(known) / len(found) if len(known) == len(found) else None
