"""Groups of samples that belong together: persons of one image, images of one patient, copies of one image."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def numbered(keys: Sequence[Hashable]) -> NDArray[np.intp]:
    """Number the keys in order of appearance, from 0; equal keys have equal numbers.

    Example:
        >>> numbered(["b", "a", "b"]).tolist()
        [0, 1, 0]
    """
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.intp)


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.intp]:
    """Number the connected components of a graph.

    Args:
        count: Number of nodes.
        pairs: Edges, as positions of two nodes.

    Returns:
        (count,) number of the component of each node.

    Example:
        >>> connected(4, [(0, 3), (3, 1)]).tolist()
        [0, 0, 1, 0]
    """
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]  # path halving keeps the trees flat
            node = parent[node]
        return node

    for first, second in pairs:
        parent[root(second)] = root(first)
    return numbered([root(node) for node in range(count)])


def joined(groupings: Sequence[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Join several groupings of the same N samples: samples of one group in any of them are in one group.

    Example:
        >>> joined([np.array([0, 0, 1]), np.array([0, 1, 1])]).tolist()
        [0, 0, 0]
    """
    pairs = []
    for groups in groupings:
        first: dict[int, int] = {}
        pairs += [(first.setdefault(group, sample), sample) for sample, group in enumerate(groups.tolist())]
    return connected(len(groupings[0]), pairs)
