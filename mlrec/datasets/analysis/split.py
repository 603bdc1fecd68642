"""Stratified splits: every label keeps its prevalence in each part, and groups of samples stay together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.analysis.stratification import iterative
from mlrec.datasets.manifest import POSITIVE, UNKNOWN
from mlrec.utils.errors import UsageError, counted

Part = NDArray[np.intp]
MOVES = 300  # most improvements of one split; a few dozen are usual
CANDIDATES = 64  # groups of each part that are tried in exchanges
LEAST_GAIN = 1e-4


def stratified(targets: NDArray[np.int8], groups: NDArray[np.intp], shares: Sequence[float], seed: int) -> Part:
    """Assign each sample to a part, 0 to len(shares) - 1, by iterative stratification of whole groups.

    The number of positives of a label in a group is encoded for the algorithm as binary columns: "at least one", "at
    least two", "at least four", ...

    Args:
        targets: (N, C); 1 positive, 0 negative, -1 unknown. Unknown labels keep their proportion as well.
        groups: (N,) group numbers, 0 to G - 1, without gaps; samples of one group come into one part.
        shares: Share of the samples for each part; the sum is 1.
        seed: Random seed for ties.

    Returns:
        (N,) part of each sample.

    Raises:
        UsageError: There are fewer groups than parts.
    """
    amount = int(groups.max(initial=-1)) + 1
    if amount < len(shares):
        raise UsageError(
            f"{counted(amount, 'group')} of samples cannot fill {counted(len(shares), 'part')}; use fewer folds"
        )
    columns = np.concatenate([targets == POSITIVE, targets == UNKNOWN, np.ones((len(targets), 1), bool)], axis=1)
    by_group = np.argsort(groups, kind="stable")
    begins = np.searchsorted(groups[by_group], np.arange(amount))
    counts = np.add.reduceat(columns[by_group], begins, axis=0, dtype=np.int64)
    random = np.random.RandomState(seed)
    order = random.permutation(amount)
    part_of_group = np.empty(amount, dtype=np.intp)
    part_of_group[order] = iterative(_thermometer(counts)[order], np.asarray(shares), random)
    return _improved(counts, part_of_group, np.asarray(shares))[groups]


def random_parts(groups: NDArray[np.intp], shares: Sequence[float], seed: int) -> Part:
    """Assign whole groups to parts at random, with about the same shares: the baseline of stratification."""
    size = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(size))
    middle = np.cumsum(size[order]) - size[order] / 2
    part_of_group = np.empty(len(size), dtype=np.intp)
    part_of_group[order] = np.searchsorted(np.cumsum(shares)[:-1] * len(groups), middle)
    return part_of_group[groups]


def prevalence_error(targets: NDArray[np.int8], chosen: NDArray[np.bool_]) -> float:
    """Mean absolute difference of label prevalence between the chosen samples and all samples, as a fraction."""
    if not chosen.any():
        return 1.0
    positive = targets == POSITIVE
    return float(np.abs(positive[chosen].mean(axis=0) - positive.mean(axis=0)).mean())


def _improved(counts: NDArray[np.int64], part: Part, shares: NDArray[np.float64]) -> Part:
    """Move and exchange groups between parts while that brings labels and samples closer to their shares.

    The distance is that of the chi-square test: squared deviations from the expected counts, divided by the total of
    each label. `gain[g, q]` is half of its decrease when group g moves to part q.
    """
    total = counts.sum(axis=0)
    used = counts[:, total > 0].astype(np.float64) / np.sqrt(total[total > 0])
    excess = np.stack([used[part == k].sum(axis=0) for k in range(len(shares))]) - np.outer(shares, used.sum(axis=0))
    part, everyone = part.copy(), np.arange(len(part))
    pull = used @ excess.T
    square = (used**2).sum(axis=1)
    for _ in range(MOVES):
        gain = pull[everyone, part][:, None] - pull - square[:, None]
        group, goal = divmod(int(gain.argmax()), len(shares))
        moves = [(group, goal)] if gain[group, goal] > LEAST_GAIN else _exchange(gain, part, used)
        for group, goal in moves:
            toward = used @ used[group]
            pull[:, part[group]] -= toward
            pull[:, goal] += toward
            part[group] = goal
        if not moves:
            break
    return part


def _exchange(gain: NDArray[np.float64], part: Part, used: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The best exchange of two groups, among the best candidates of each pair of parts; empty without a gain."""
    best, moves = LEAST_GAIN, []
    for p, q in itertools.combinations(range(gain.shape[1]), 2):
        there, back = (
            members[np.argsort(-gain[members, goal], kind="stable")[:CANDIDATES]]
            for members, goal in ((np.flatnonzero(part == p), q), (np.flatnonzero(part == q), p))
        )
        both = gain[there, q][:, None] + gain[back, p][None, :] + 2 * used[there] @ used[back].T
        if both.size and both.max() > best:
            best = both.max()
            first, second = divmod(int(both.argmax()), len(back))
            moves = [(int(there[first]), q), (int(back[second]), p)]
    return moves


def _thermometer(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(G, C) counts as binary columns "at least 1, 2, 4, 8, ...", without constant columns."""
    levels = itertools.takewhile(lambda level: level <= counts.max(initial=0), (2**k for k in itertools.count()))
    columns = np.concatenate([counts >= level for level in levels], axis=1)
    varying = columns[:, columns.any(axis=0) & ~columns.all(axis=0)]
    return varying if varying.shape[1] else columns[:, :1]
