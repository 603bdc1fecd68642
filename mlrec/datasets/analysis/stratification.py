"""Iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the stratification of multi-label data, 2011).

The rarest remaining label is distributed first. Each of its samples goes to the part that lacks the label most; ties go
to the part that lacks samples most, then to a random part. The package iterative-stratification makes the same draws,
and tests compare both. It is not used here because it imports scikit-learn and SciPy, which takes longer than all work
of `mlrec split`, and because it counts all labels of all remaining samples again for each label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.sparse_targets import POSITIVE, SparseTargets
from mlrec.utils import ragged


def iterative(labels: SparseTargets, shares: NDArray[np.float64], random: np.random.RandomState) -> NDArray[np.intp]:
    """Assign each sample to a part, 0 to P - 1.

    Each positive label is touched twice: when its column is distributed, and when its sample is.

    Args:
        labels: (N, C) which labels each sample has; none is unknown.
        shares: (P,) share of the samples for each part; the sum is 1.
        random: Random numbers for ties.
    """
    samples = labels.shape[0]
    part = np.zeros(samples, dtype=np.intp)
    wanted = (shares * samples).tolist()
    left = labels.counts(POSITIVE)
    wanted_of = np.outer(shares, left)
    by_label, ends = _samples_by_label(labels, left)
    waiting = np.ones(samples, dtype=np.bool_)
    while left.any():
        rarest = _drawn(np.flatnonzero(left == left[left > 0].min()).tolist(), random)
        holders = by_label[ends[rarest] : ends[rarest + 1]]
        holders = holders[waiting[holders]]
        missing = wanted_of[:, rarest].tolist()
        parts = range(len(wanted))
        chosen = []
        for _ in range(len(holders)):
            goal = _drawn(_greatest(wanted, _greatest(missing, parts)), random)
            chosen.append(goal)
            wanted[goal] -= 1
            missing[goal] -= 1
        part[holders] = chosen
        waiting[holders] = False
        columns, lengths = ragged.taken(labels.codes, labels.offsets, holders)
        # One by one, as the package does: 0.1 - 1 - 1 is not 0.1 - 2.
        np.subtract.at(wanted_of, (np.repeat(chosen, np.diff(lengths)), columns), 1)
        left -= np.bincount(columns, minlength=len(left))
    for sample in np.flatnonzero(waiting).tolist():
        part[sample] = goal = _drawn(_greatest(wanted, range(len(wanted))), random)
        wanted[goal] -= 1
    return part


def _samples_by_label(labels: SparseTargets, counts: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The samples that have each label, in order, and where those of each label begin."""
    order = np.argsort(labels.codes, kind="stable")
    samples = np.repeat(np.arange(labels.shape[0], dtype=np.int32), np.diff(labels.offsets))[order]
    return samples, ragged.offsets_of(counts)


def _greatest(values: Sequence[float], among: Sequence[int]) -> list[int]:
    """Positions in `among` with the greatest value."""
    greatest = max(values[place] for place in among)
    return [place for place in among if values[place] == greatest]


def _drawn(among: Sequence[int], random: np.random.RandomState) -> int:
    """A random element of `among`. A single one is returned without a draw, so that `random` does not advance."""
    if len(among) == 1:
        return among[0]
    return among[random.choice(len(among))]
