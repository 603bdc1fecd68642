"""Stratified splits of a dataset into parts.

Each label has a similar prevalence in every part, and all samples of a group are in the same part.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.analysis.stratification import iterative
from mlrec.datasets.manifest_storage import POSITIVE, UNKNOWN, SparseTargets, code_type, sparse
from mlrec.utils import ragged
from mlrec.utils.errors import UsageError, counted

Part = NDArray[np.intp]
MOVES = 300  # maximum number of improvements per split; a few dozen are typical
CANDIDATES = 64  # number of groups per part that are tried in exchanges
LEAST_GAIN = 1e-4


def stratified(
    targets: NDArray[np.int8] | SparseTargets, groups: NDArray[np.intp], shares: Sequence[float], seed: int
) -> Part:
    """Assign each sample to a part by iterative stratification of whole groups.

    Because the algorithm requires binary labels, the number of positives of a label in a group is encoded as binary
    columns: "at least one", "at least two", "at least four", and so on.

    Args:
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown). Each label has similar proportions of
            positives and of unknown targets in all parts.
        groups: (N,) array with the group number of each sample, from 0 to G - 1 without gaps. Samples of one group are
            assigned to the same part.
        shares: Fraction of the samples in each part; the fractions sum to 1.
        seed: Random seed for the order of the groups and for breaking ties.

    Returns:
        (N,) array with the part number of each sample, from 0 to len(shares) - 1.

    Raises:
        UsageError: There are fewer groups than parts.
    """
    amount = int(groups.max(initial=-1)) + 1
    if amount < len(shares):
        raise UsageError(
            f"{counted(amount, 'sample group')} cannot be divided into {counted(len(shares), 'part')}; "
            "add images, or use fewer folds"
        )
    counts = _counts_of_groups(sparse(targets), groups, amount)
    random = np.random.RandomState(seed)
    order = random.permutation(amount)
    part_of_group = np.empty(amount, dtype=np.intp)
    part_of_group[order] = iterative(_thermometer(counts).take(order), np.asarray(shares), random)
    return _improved(counts, part_of_group, np.asarray(shares))[groups]


@dataclass(frozen=True)
class GroupCounts:
    """Sparse (G, K) matrix of counts, with one row per group.

    Only counts above 0 are stored, sorted by group, then by column.

    Attributes:
        shape: Shape (G, K) of the matrix.
        columns, counts: (E,) arrays with the column and the count of each stored entry.
        offsets: (G + 1,) array with the index of the first stored entry of each group, followed by E.
    """

    shape: tuple[int, int]
    columns: NDArray[np.int64]
    counts: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, shape: tuple[int, int], cells: NDArray[np.int64]) -> GroupCounts:
        """Count how often each cell number `group * K + column` occurs, and return the counts as a matrix."""
        cells, counts = np.unique(cells, return_counts=True)
        group, columns = np.divmod(cells, shape[1])
        return cls(shape, columns, counts, ragged.offsets_of(np.bincount(group, minlength=shape[0])))

    @property
    def group(self) -> NDArray[np.int64]:
        """Group number of each stored entry, as an (E,) array."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.offsets))

    def rows(self, groups: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return dense rows for the given groups, with the (E,) `values` in place of the counts."""
        columns, offsets = ragged.taken(self.columns, self.offsets, groups)
        rows = np.zeros((len(groups), self.shape[1]))
        rows[np.repeat(np.arange(len(groups)), np.diff(offsets)), columns] = ragged.taken(values, self.offsets, groups)[
            0
        ]
        return rows


def _counts_of_groups(targets: SparseTargets, groups: NDArray[np.intp], amount: int) -> GroupCounts:
    """Count the samples in each group by positive label, by unknown label, and in total: G x (2 C + 1)."""
    width = 2 * targets.labels + 1
    cells = [groups.astype(np.int64) * width + width - 1]
    for begin, row, column, value in targets.blocks():
        cells.append(groups[begin + row] * width + column + np.where(value == UNKNOWN, targets.labels, 0))
    return GroupCounts.of((amount, width), np.concatenate(cells))


def random_parts(groups: NDArray[np.intp], shares: Sequence[float], seed: int) -> Part:
    """Assign whole groups to parts at random, so that the parts have approximately the given shares.

    The random split is a baseline for comparison with stratification.
    """
    size = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(size))
    middle = np.cumsum(size[order]) - size[order] / 2
    part_of_group = np.empty(len(size), dtype=np.intp)
    part_of_group[order] = np.searchsorted(np.cumsum(shares)[:-1] * len(groups), middle)
    return part_of_group[groups]


def prevalence_error(targets: NDArray[np.int8] | SparseTargets, chosen: NDArray[np.bool_]) -> float:
    """Return the mean absolute difference in label prevalence between a subset and all samples.

    The prevalence of a label is the number of its positives divided by the number of samples. The result is 1 if the
    subset is empty.
    """
    if not chosen.any():
        return 1.0
    targets = sparse(targets)
    own = np.zeros(targets.labels, dtype=np.int64)
    for begin, row, column, value in targets.blocks():
        own += np.bincount(column[(value == POSITIVE) & chosen[begin + row]], minlength=len(own))
    return float(np.abs(own / np.count_nonzero(chosen) - targets.counts(POSITIVE) / len(chosen)).mean())


def _improved(counts: GroupCounts, part: Part, shares: NDArray[np.float64]) -> Part:
    """Move and swap groups between parts as long as this brings labels and samples closer to their shares.

    The distance is defined as in the chi-square test: squared deviations from the expected counts, divided by the total
    of each label. `gain[g, q]` is half of the decrease in distance when group g moves to part q.
    """
    groups, columns = counts.shape
    total = np.bincount(counts.columns, counts.counts, minlength=columns)
    used = counts.counts / np.sqrt(total[counts.columns])
    group = counts.group
    part, everyone = part.copy(), np.arange(groups)

    def product(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scalar product of `weights` (K,) with each group."""
        return np.bincount(group, used * weights[counts.columns], minlength=groups).astype(np.float64)

    has = [np.bincount(counts.columns, used * (part[group] == k), minlength=columns) for k in range(len(shares))]
    excess = np.stack(has) - np.outer(shares, np.bincount(counts.columns, used, minlength=columns))
    pull = np.stack([product(of_part) for of_part in excess], axis=1)
    square = np.bincount(group, used**2, minlength=groups)
    for _ in range(MOVES):
        gain = pull[everyone, part][:, None] - pull - square[:, None]
        best, goal = divmod(int(gain.argmax()), len(shares))
        moves = [(best, goal)]
        if gain[best, goal] <= LEAST_GAIN:  # no single move helps, but two groups may change places
            moves = _exchange(gain, part, counts, used)
        for moved, goal in moves:
            toward = product(counts.rows(np.array([moved]), used)[0])
            pull[:, part[moved]] -= toward
            pull[:, goal] += toward
            part[moved] = goal
        if not moves:
            break
    return part


def _exchange(
    gain: NDArray[np.float64], part: Part, counts: GroupCounts, used: NDArray[np.float64]
) -> list[tuple[int, int]]:
    """Return the best swap of two groups among the best candidates of all part pairs.

    The result is empty if no swap has a gain.
    """
    best, moves = LEAST_GAIN, []
    for p, q in itertools.combinations(range(gain.shape[1]), 2):
        there, back = (
            members[_greatest(gain[members, goal], CANDIDATES)]
            for members, goal in ((np.flatnonzero(part == p), q), (np.flatnonzero(part == q), p))
        )
        both = (
            gain[there, q][:, None] + gain[back, p][None, :] + 2 * counts.rows(there, used) @ counts.rows(back, used).T
        )
        if both.size and both.max() > best:
            best = both.max()
            first, second = divmod(int(both.argmax()), len(back))
            moves = [(int(there[first]), q), (int(back[second]), p)]
    return moves


def _greatest(values: NDArray[np.float64], amount: int) -> NDArray[np.intp]:
    """Return the positions of the largest values in descending order; ties keep their order."""
    if len(values) > amount:
        least = -np.partition(-values, amount - 1)[amount - 1]
        above, equal = np.flatnonzero(values > least), np.flatnonzero(values == least)
        among = np.concatenate([above, equal[: amount - len(above)]])
    else:
        among = np.arange(len(values))
    return among[np.lexsort((among, -values[among]))]


def _thermometer(counts: GroupCounts) -> SparseTargets:
    """Encode (G, K) counts as binary columns "at least 1, 2, 4, 8, ...", without constant columns."""
    groups, columns = counts.shape
    group, most = counts.group, int(counts.counts.max(initial=0))
    cells = []
    for level, least in enumerate(itertools.takewhile(lambda least: least <= most, (2**k for k in itertools.count()))):
        reached = counts.counts >= least
        column = level * columns + counts.columns[reached]
        cells.append((group[reached], column))
    rows, own = (np.concatenate(parts) for parts in zip(*cells, strict=True))
    held = np.bincount(own, minlength=len(cells) * columns)
    varying = (held > 0) & (held < groups)
    if not varying.any():
        varying[0] = True
    place = np.cumsum(varying) - 1
    kept = varying[own]
    rows, own = rows[kept], place[own[kept]]
    order = np.lexsort((own, rows))
    offsets = ragged.offsets_of(np.bincount(rows, minlength=groups))
    width = int(varying.sum())
    return SparseTargets(own[order].astype(code_type(width)), offsets, width)
