"""Iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the stratification of multi-label data, 2011).

The rarest remaining label is distributed first. Each of its samples goes to the part that lacks the label most; ties go
to the part that lacks samples most, then to a random part. The package iterative-stratification makes the same draws,
and tests compare both. It is not used here because it imports scikit-learn and SciPy, which takes longer than all work
of `mlrec split`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def iterative(
    labels: NDArray[np.bool_], shares: NDArray[np.float64], random: np.random.RandomState
) -> NDArray[np.intp]:
    """Assign each sample to a part, 0 to P - 1.

    Args:
        labels: (N, C) whether a sample has a label.
        shares: (P,) share of the samples for each part; the sum is 1.
        random: Random numbers for ties.
    """
    part = np.zeros(len(labels), dtype=np.intp)
    wanted = (shares * len(labels)).tolist()
    wanted_of = np.outer(shares, labels.sum(axis=0))
    waiting = np.ones(len(labels), dtype=np.bool_)
    while waiting.any():
        left = labels[waiting].sum(axis=0)
        if not left.any():
            for sample in np.flatnonzero(waiting).tolist():
                part[sample] = chosen = _drawn(_greatest(wanted, range(len(wanted))), random)
                wanted[chosen] -= 1
            break
        rarest = _drawn(np.flatnonzero(left == left[left > 0].min()).tolist(), random)
        for sample in np.flatnonzero(labels[:, rarest] & waiting).tolist():
            most = _greatest(wanted_of[:, rarest].tolist(), range(len(wanted)))
            part[sample] = chosen = _drawn(_greatest(wanted, most), random)
            wanted[chosen] -= 1
            wanted_of[chosen, labels[sample]] -= 1
            waiting[sample] = False
    return part


def _greatest(values: Sequence[float], among: Sequence[int]) -> list[int]:
    """Positions in `among` with the greatest value."""
    greatest = max(values[place] for place in among)
    return [place for place in among if values[place] == greatest]


def _drawn(among: Sequence[int], random: np.random.RandomState) -> int:
    """A random element of `among`. A single one is returned without a draw."""
    return among[random.choice(len(among))] if len(among) > 1 else among[0]
