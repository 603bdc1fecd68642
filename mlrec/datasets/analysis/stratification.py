"""Iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the stratification of multi-label data, 2011).

The rarest label that is left is dealt out first, each of its samples to the part that wants the label most, then to the
part that wants samples most, then by lot. The package iterative-stratification does the same, draw for draw, and tests
hold this file to it. It is not used here because it brings scikit-learn and SciPy, whose import alone takes longer than
all that `mlrec split` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def iterative(
    labels: NDArray[np.bool_], shares: NDArray[np.float64], random: np.random.RandomState
) -> NDArray[np.intp]:
    """The part, 0 to P - 1, of each sample.

    Args:
        labels: (N, C) which labels a sample has.
        shares: (P,) of the samples for each part, summing to 1.
        random: breaks ties.
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
    """Which of the places `among` hold the greatest of their values."""
    greatest = max(values[place] for place in among)
    return [place for place in among if values[place] == greatest]


def _drawn(among: Sequence[int], random: np.random.RandomState) -> int:
    """One of them by lot; where there is but one, nothing is drawn."""
    return among[random.choice(len(among))] if len(among) > 1 else among[0]
