"""Statistics of the labels, images and objects in a dataset.

The module computes label counts per split, differences between splits, label co-occurrence, and image and object sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest
from mlrec.datasets.manifest_storage import CELLS, SparseTargets, joined
from mlrec.utils import ragged
from mlrec.utils.texts import distinct, first_places
from mlrec.utils.texts import joined as joined_texts

LEAST_POSITIVES = 10  # minimum number of co-occurrences for an implication
SIGNIFICANCE = 0.05
PAIR_COST = 1000  # counting a pair of labels takes about as long as this many multiplications in a matrix product

Counts = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class SplitStatistics:
    """Number of images, samples and labels in one split.

    Attributes:
        split: Name of the split.
        images: Number of image files.
        samples: Number of samples, which is larger than `images` if each person in an image is a sample.
        labels: Names of the C labels.
        positives, negatives, unknown: Number of samples with this target, for each of the C labels.
        histogram: Number of samples with 0, 1, 2, ... positive labels.
    """

    split: str
    images: int
    samples: int
    labels: tuple[str, ...]
    positives: tuple[int, ...]
    negatives: tuple[int, ...]
    unknown: tuple[int, ...]
    histogram: tuple[int, ...]

    @property
    def labels_per_sample(self) -> float:
        """Mean number of positive labels per sample; 0 for an empty split."""
        return sum(self.positives) / max(self.samples, 1)

    def prevalence(self, label: int) -> float | None:
        """Fraction of positives among the samples whose label is known, or None if there are no such samples."""
        known = self.positives[label] + self.negatives[label]
        if known == 0:
            return None
        return self.positives[label] / known


@dataclass(frozen=True)
class Shift:
    """Significant difference in the prevalence of a label between two splits.

    `first` and `second` are the prevalences as fractions, and `z` is `second - first` divided by its standard error.
    """

    label: str
    first: float
    second: float
    z: float


@dataclass(frozen=True)
class Implication:
    """Label implication: every sample that is positive for `label` is also positive for `other`.

    Samples in which `other` is unknown are ignored; `count` is the number of remaining samples.
    """

    label: str
    other: str
    count: int


@dataclass(frozen=True)
class Sizes:
    """Quantiles of the widths, heights or areas of images or objects.

    The quantile levels are 0, 0.25, 0.5, 0.75 and 1, and `count` is the number of images or objects.
    """

    count: int
    quantiles: tuple[float, float, float, float, float]


def describe(manifest: Manifest) -> SplitStatistics:
    """Compute the statistics of one split."""
    targets = manifest.sparse_targets
    counts = {value: tuple(targets.counts(value).tolist()) for value in (POSITIVE, NEGATIVE, UNKNOWN)}
    return SplitStatistics(
        split=manifest.split,
        images=distinct(manifest.images),
        samples=len(manifest),
        labels=manifest.labels,
        positives=counts[POSITIVE],
        negatives=counts[NEGATIVE],
        unknown=counts[UNKNOWN],
        histogram=tuple(np.bincount(targets.per_sample(POSITIVE)).tolist()),
    )


def shifts(first: SplitStatistics, second: SplitStatistics) -> list[Shift]:
    """Find labels whose prevalence differs significantly between two splits, most significant first.

    Each label is tested with a two-proportion z-test. The significance level is 5% over all labels (Bonferroni
    correction). For random splits, a difference is reported for at most about one pair of splits in twenty.
    """
    bound = NormalDist().inv_cdf(1 - SIGNIFICANCE / 2 / max(len(first.labels), 1))
    significant = []
    for k, label in enumerate(first.labels):
        p, q = first.prevalence(k), second.prevalence(k)
        z = _z(first, second, k)
        if p is not None and q is not None and abs(z) > bound:
            significant.append(Shift(label, p, q, z))
    return sorted(significant, key=lambda shift: -abs(shift.z))


def cooccurrence(manifests: Sequence[Manifest]) -> tuple[Counts, Counts]:
    """Count co-occurrences of labels over all splits.

    Unknown labels are not counted. If a sample is in multiple splits, such as trainval and train, it is counted once.

    Returns:
        Two (C, C) matrices. The first contains the number of samples in which both the row label and the column label
        are positive; its diagonal contains the positives of each label. The second contains the number of samples in
        which the row label is positive and the column label is negative.
    """
    targets = _targets_once(manifests)
    labels = targets.labels
    together, apart = np.zeros((labels, labels), np.int32), np.zeros((labels, labels), np.int32)
    rows = max(CELLS // max(labels, 1), 1)
    for begin, row, column, value in targets.blocks(rows):
        size = min(rows, targets.shape[0] - begin)
        positive, unknown = (SparseRows.of(row[value == v], column[value == v], size) for v in (POSITIVE, UNKNOWN))
        _add_pairs(together, positive, positive)
        _add_pairs(apart, positive, unknown)
    # A label that is neither positive nor unknown is negative.
    apart += together
    np.subtract(together.diagonal()[:, None], apart, out=apart)
    return together, apart


@dataclass(frozen=True)
class SparseRows:
    """Labels of a block of samples, in sparse form.

    `columns` contains the label columns of all samples, one sample after the other. `lengths` contains the number of
    labels of each sample.
    """

    columns: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, rows: NDArray[np.int64], columns: NDArray[np.int64], size: int) -> SparseRows:
        """Create the sparse form from the sample and the column of each label, sorted by sample."""
        return cls(columns, np.bincount(rows, minlength=size))

    def dense(self, labels: int) -> NDArray[np.float32]:
        """Return the labels as a dense matrix of 0 and 1."""
        matrix = np.zeros((len(self.lengths), labels), dtype=np.float32)
        matrix[np.repeat(np.arange(len(self.lengths)), self.lengths), self.columns] = 1
        return matrix


def _add_pairs(counts: NDArray[np.int32], first: SparseRows, second: SparseRows) -> None:
    """Add the number of samples with the row and the column label to each cell.

    The row label is in `first`, and the column label is in `second`.

    If samples have few labels, pairs are counted one by one. Otherwise, a matrix product is faster.
    """
    labels = len(counts)
    if (first.lengths * second.lengths).sum() * PAIR_COST > len(first.lengths) * labels**2:
        counts += (first.dense(labels).T @ second.dense(labels)).astype(np.int32)  # exact up to 2^24 samples
        return
    row = np.repeat(np.arange(len(first.lengths)), first.lengths)
    others, _ = ragged.taken(second.columns, ragged.offsets_of(second.lengths), row)
    pairs, times = np.unique(np.repeat(first.columns, second.lengths[row]) * labels + others, return_counts=True)
    counts.reshape(-1)[pairs] += times.astype(np.int32)


def implications(
    labels: Sequence[str], together: Counts, apart: Counts, least: int = LEAST_POSITIVES
) -> list[Implication]:
    """Find pairs of labels in which every positive sample of one label is also positive for the other.

    Args:
        labels: Names of the C labels.
        together: (C, C) matrix with the number of samples in which both labels are positive; see `cooccurrence`.
        apart: (C, C) matrix with the number of samples in which the row label is positive and the column label is
            negative.
        least: Minimum number of co-occurrences; a smaller number may be due to chance.
    """
    holds = (apart == 0) & (together >= least)
    np.fill_diagonal(holds, False)
    return [Implication(labels[b], labels[a], int(together[b, a])) for b, a in np.argwhere(holds).tolist()]


def positive_counts(manifests: Sequence[Manifest]) -> Counts:
    """Count the positives of each label in all splits; each sample is counted only once."""
    return _targets_once(manifests).counts(POSITIVE)


def rare(statistics: SplitStatistics, least: int) -> dict[str, int]:
    """Return the labels with fewer than `least` positives, each with its number of positives."""
    return {label: n for label, n in zip(statistics.labels, statistics.positives, strict=True) if n < least}


def sizes(values: NDArray[np.floating] | Sequence[float]) -> Sizes | None:
    """Compute quantiles of widths, heights or areas. Return None if there are no values.

    Example:
        >>> sizes([1, 2, 3, 4, 5]).quantiles
        (1.0, 2.0, 3.0, 4.0, 5.0)
    """
    if len(values) == 0:
        return None
    least, quarter, median, three, greatest = np.quantile(np.asarray(values, float), [0, 0.25, 0.5, 0.75, 1]).tolist()
    return Sizes(len(values), (least, quarter, median, three, greatest))


def independent(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Return the splits with at least one sample that is in no larger split, in their original order.

    For VOC, for example, the result contains trainval and test.
    """
    longest = sorted(manifests, key=len, reverse=True)
    names = {manifest.split for manifest, fresh in zip(longest, _not_earlier(longest), strict=True) if fresh.any()}
    return [manifest for manifest in manifests if manifest.split in names]


def _z(first: SplitStatistics, second: SplitStatistics, label: int) -> float:
    """Statistic of the two-proportion z-test; 0 if undefined."""
    a, b = first.positives[label], second.positives[label]
    n, m = a + first.negatives[label], b + second.negatives[label]
    if not n or not m or a + b in (0, n + m):
        return 0.0
    pooled = (a + b) / (n + m)
    return (b / m - a / n) / math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))


def _targets_once(manifests: Sequence[Manifest]) -> SparseTargets:
    parts = []
    for manifest, fresh in zip(manifests, _not_earlier(manifests), strict=True):
        targets = manifest.sparse_targets
        if not fresh.all():
            targets = targets.take(np.flatnonzero(fresh))
        parts.append(targets)
    return parts[0] if len(parts) == 1 else joined(parts)


def _not_earlier(manifests: Sequence[Manifest]) -> list[NDArray[np.bool_]]:
    """Return which samples of each split are not in any earlier split."""
    if len(manifests) == 1:
        return [np.ones(len(manifests[0]), dtype=np.bool_)]
    first = first_places(joined_texts([manifest.sample_ids for manifest in manifests]))
    ends = np.cumsum([len(manifest) for manifest in manifests]).tolist()
    begins = [0, *ends[:-1]]
    return [first[begin:end] >= begin for begin, end in zip(begins, ends, strict=True)]
