"""Parts of a dataset in which every label keeps its prevalence, and groups of samples stay together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.analysis.stratification import iterative
from mlrec.datasets.manifest import POSITIVE, UNKNOWN
from mlrec.utils.errors import UsageError, counted

Part = NDArray[np.intp]
MOVES = 300  # at most so many improvements of one split; a few dozen are the rule
CANDIDATES = 64  # groups of each part that are tried in exchanges
LEAST_GAIN = 1e-4


def stratified(targets: NDArray[np.int8], groups: NDArray[np.intp], shares: Sequence[float], seed: int) -> Part:
    """The part, 0 to len(shares) - 1, of each sample.

    Iterative stratification of whole groups: a group counts for a label as often as it holds it, told to the algorithm
    as "holds it", "twice or more", "four times or more", ...

    Args:
        targets: (N, C); unknown labels are kept in proportion, too.
        groups: (N,) group numbers, 0 to G - 1, none of them empty; samples of one group come into one part.
        shares: of the samples for each part, summing to 1.
        seed: ties in the algorithm are broken by it.

    Raises:
        UsageError: fewer groups than parts.
    """
    amount = int(groups.max(initial=-1)) + 1
    if amount < len(shares):
        raise UsageError(
            f"{counted(amount, 'group')} of samples cannot make {counted(len(shares), 'part')}; ask for fewer folds"
        )
    columns = np.concatenate([targets == POSITIVE, targets == UNKNOWN, np.ones((len(targets), 1), bool)], axis=1)
    by_group = np.argsort(groups, kind="stable")
    begins = np.searchsorted(groups[by_group], np.arange(amount))
    counts = np.add.reduceat(columns[by_group], begins, axis=0, dtype=np.int64)
    random = np.random.RandomState(seed)
    order = random.permutation(amount)
    part_of_group = np.empty(amount, dtype=np.intp)
    part_of_group[order] = iterative(_thermometer(counts)[order], np.asarray(shares), random)
    return _polished(counts, part_of_group, np.asarray(shares))[groups]


def random_parts(groups: NDArray[np.intp], shares: Sequence[float], seed: int) -> Part:
    """Parts of whole groups at random, of about the same shares: what stratification is to be measured against."""
    size = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(size))
    middle = np.cumsum(size[order]) - size[order] / 2
    part_of_group = np.empty(len(size), dtype=np.intp)
    part_of_group[order] = np.searchsorted(np.cumsum(shares)[:-1] * len(groups), middle)
    return part_of_group[groups]


def prevalence_error(targets: NDArray[np.int8], chosen: NDArray[np.bool_]) -> float:
    """Mean over labels of the distance between the prevalence among the chosen samples and among all, as a fraction."""
    if not chosen.any():
        return 1.0
    positive = targets == POSITIVE
    return float(np.abs(positive[chosen].mean(axis=0) - positive.mean(axis=0)).mean())


def _polished(counts: NDArray[np.int64], part: Part, shares: NDArray[np.float64]) -> Part:
    """Move and exchange groups between parts as long as that brings labels and samples nearer to their shares.

    The distance is chi-square's: squared deviations from the expected counts, over the total of each label.
    `gain[g, q]` is by how much half of it falls when group g goes into part q.
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
    """The best exchange of two groups among the most promising of each pair of parts; none if it gains nothing."""
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
    """(G, C) counts as columns "at least 1, 2, 4, 8, ..."; those that say nothing are left out."""
    levels = itertools.takewhile(lambda level: level <= counts.max(initial=0), (2**k for k in itertools.count()))
    columns = np.concatenate([counts >= level for level in levels], axis=1)
    told = columns[:, columns.any(axis=0) & ~columns.all(axis=0)]
    return told if told.shape[1] else columns[:, :1]
