"""Samples that belong together: persons of one picture, pictures of one patient, copies of one photograph."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def numbered(keys: Sequence[Hashable]) -> NDArray[np.intp]:
    """A number for each key, equal for equal keys, 0 for the first."""
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.intp)


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.intp]:
    """The group of each of `count` things when those of each pair belong together, and so on from pair to pair."""
    parent = list(range(count))

    def root(thing: int) -> int:
        while parent[thing] != thing:
            parent[thing] = parent[parent[thing]]
            thing = parent[thing]
        return thing

    for first, second in pairs:
        parent[root(second)] = root(first)
    return numbered([root(thing) for thing in range(count)])


def joined(groupings: Sequence[NDArray[np.intp]]) -> NDArray[np.intp]:
    """The coarsest view of several groupings of the same N samples: together in one of them is together."""
    pairs = []
    for groups in groupings:
        first: dict[int, int] = {}
        pairs += [(first.setdefault(group, sample), sample) for sample, group in enumerate(groups.tolist())]
    return connected(len(groupings[0]), pairs)
