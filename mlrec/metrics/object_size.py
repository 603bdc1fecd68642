"""AP by object size and by the number of objects of a label in an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import POSITIVE, UNKNOWN
from mlrec.datasets.object_sizes import AP_SIZES, SizeRange, relative_sizes
from mlrec.datasets.objects import Objects
from mlrec.metrics.bootstrap import Runs, paired_difference, runs_of
from mlrec.metrics.evaluate import evaluate
from mlrec.metrics.intervals import Interval
from mlrec.utils.names import label_columns


@dataclass(frozen=True, eq=False)
class Extents:
    """Size of the largest object and number of objects for each sample and label.

    A region that is annotated as a group of objects (crowd) has no size, and its object count is `MANY`.

    Attributes:
        labels: C label names.
        share: (N, C) array with the fraction of the image covered by the largest object; NaN if no object has a size.
        number: (N, C) array with the number of annotated objects.
    """

    labels: tuple[str, ...]
    share: NDArray[np.float64]
    number: NDArray[np.int64]

    def columns(self, labels: Sequence[str]) -> Extents:
        """Select the labels in `labels`, in this order."""
        columns = label_columns(self.labels, labels, "objects")
        return Extents(tuple(labels), self.share[:, columns], self.number[:, columns])


MANY = 100
NUMBERS = (SizeRange("1 object", 1, 2), SizeRange("2-3", 2, 4), SizeRange("≥ 4", 4, math.inf))


def extents(objects: Sequence[Objects], labels: Sequence[str]) -> Extents:
    """Return the largest object size and the object count for each sample and label.

    Difficult objects (VOC) are excluded.

    Args:
        objects: Objects of each sample.
        labels: C label names; `Objects.labels` are positions in this sequence.
    """
    share = np.full((len(objects), len(labels)), np.nan)
    number = np.zeros((len(objects), len(labels)), dtype=np.int64)
    for row, annotated in enumerate(objects):
        counted = ~annotated.difficult
        np.add.at(number[row], annotated.labels[counted], np.where(annotated.crowd[counted], MANY, 1))
        single = counted & ~annotated.crowd
        if annotated.size is not None and single.any():
            np.fmax.at(share[row], annotated.labels[single], relative_sizes(annotated.areas[single], annotated.size))
    return Extents(tuple(labels), share, number)


@dataclass(frozen=True)
class SizeBin:
    """mAP computed from the positives in one range of object sizes or counts, and from all negatives.

    Attributes:
        kind: What the range refers to: "size" of the largest object, or "number" of objects.
        name: Name of the range.
        pairs: Number of positive sample-label pairs.
        labels: Number of labels with a positive pair.
        mAP: mAP of each method, averaged over runs; None if undefined.
        gains: mAP of each method after the first one minus mAP of the first one, with a confidence interval; None
            without resamples or if undefined.
    """

    kind: str
    name: str
    pairs: int
    labels: int
    mAP: tuple[float | None, ...]
    gains: tuple[Interval | None, ...]


def ap_by_size(
    methods: Sequence[Runs], targets: NDArray[np.int8], objects: Extents, *, resamples: int, **options: Any
) -> list[SizeBin]:
    """Compute the mAP of each method for each range of object sizes and object counts.

    Positives of other ranges are excluded. AP depends on the fraction of positives, which differs between bins. Methods
    can therefore be compared within a bin, but bins cannot be compared with each other.

    Args:
        methods: Logits of each method on the same samples: an (N, C) array, or a list of such arrays from runs with
            different seeds. All other methods are compared with the first one.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown).
        objects: Object sizes and object counts for the same samples.
        resamples: Number of bootstrap resamples (0 disables intervals).
        **options: Options of the bootstrap; see `metric_intervals`.
    """
    kinds: list[tuple[str, tuple[SizeRange, ...], NDArray[Any]]] = [
        ("size", AP_SIZES, objects.share),
        ("number", NUMBERS, objects.number),
    ]
    return [
        _size_bin(kind, group.name, methods, _inside(targets, group.contains(values)), resamples, options)
        for kind, ranges, values in kinds
        for group in ranges
    ]


def _inside(targets: NDArray[np.int8], inside: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Return the targets with the positives outside the bin set to unknown."""
    return np.where((targets == POSITIVE) & ~inside, np.int8(UNKNOWN), targets)


def _size_bin(
    kind: str, name: str, methods: Sequence[Runs], targets: NDArray[np.int8], resamples: int, options: dict[str, Any]
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
    values = [evaluate(logits, targets, scores="logits").mAP for logits in runs_of(runs)]
    defined = [value for value in values if value is not None]
    if len(defined) < len(values):
        return None
    return math.fsum(defined) / len(values)
