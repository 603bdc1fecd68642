"""Iterative stratification for multi-label data (Sechidis et al., 2011).

Source: Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", 2011.

In each step, every sample with the rarest remaining label is assigned to the part with the largest shortage of that
label. Ties are broken by the largest shortage of samples, then at random. The tests verify that the result is identical
to that of the package iterative-stratification. This module replaces the package because importing its dependencies,
scikit-learn and SciPy, takes longer than all other work in `mlrec split`. In addition, iterative-stratification
recounts the labels of all remaining samples for each label.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest_storage import POSITIVE, SparseTargets
from mlrec.utils import ragged


def iterative(labels: SparseTargets, shares: NDArray[np.float64], random: np.random.RandomState) -> NDArray[np.intp]:
    """Assign each sample to one of P parts by iterative stratification; parts are numbered from 0.

    Each positive label is visited only twice: when samples are assigned, and when the remaining counts are updated.

    Args:
        labels: (N, C) binary targets in sparse form. Unknown labels are not allowed.
        shares: (P,) array with the fraction of the samples in each part; the fractions sum to 1.
        random: Random number generator for breaking ties.
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
        # Subtract one by one, as the package does: in floating point, 0.1 - 1 - 1 differs from 0.1 - 2.
        np.subtract.at(wanted_of, (np.repeat(chosen, np.diff(lengths)), columns), 1)
        left -= np.bincount(columns, minlength=len(left))
    for sample in np.flatnonzero(waiting).tolist():
        part[sample] = goal = _drawn(_greatest(wanted, range(len(wanted))), random)
        wanted[goal] -= 1
    return part


def _samples_by_label(labels: SparseTargets, counts: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the samples with each label, in order, and the start index of each label."""
    order = np.argsort(labels.codes, kind="stable")
    samples = np.repeat(np.arange(labels.shape[0], dtype=np.int32), np.diff(labels.offsets))[order]
    return samples, ragged.offsets_of(counts)


def _greatest(values: Sequence[float], among: Sequence[int]) -> list[int]:
    """Return the positions in `among` with the largest value."""
    greatest = max(values[place] for place in among)
    return [place for place in among if values[place] == greatest]


def _drawn(among: Sequence[int], random: np.random.RandomState) -> int:
    """Return a random element of `among`.

    A single element is returned without drawing, so that `random` does not advance.
    """
    if len(among) == 1:
        return among[0]
    return among[random.choice(len(among))]
