"""Groups of samples that must stay together, such as the people in one image.

A group can also contain the images of one patient, or the copies of one image.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mlrec.utils.texts import Texts, first_places


def numbered(keys: Sequence[Hashable]) -> NDArray[np.intp]:
    """Number the distinct keys from 0 in order of first appearance, and return the number of each key.

    Example:
        >>> numbered(["b", "a", "b"]).tolist()
        [0, 1, 0]
    """
    if isinstance(keys, Texts):
        first = first_places(keys)
        return np.asarray((np.cumsum(first == np.arange(len(first))) - 1)[first])
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.intp)


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.intp]:
    """Assign to each node of a graph the number of its connected component.

    Args:
        count: Number of nodes.
        pairs: Edges, as pairs of node positions.

    Returns:
        (count,) array with the component number of each node.

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
    """Merge multiple groupings of the same N samples into one grouping.

    If two samples are in the same group in at least one grouping, they are in the same group in the result.

    Example:
        >>> joined([np.array([0, 0, 1]), np.array([0, 1, 1])]).tolist()
        [0, 0, 0]
    """
    first, *others = groupings
    others = [groups for groups in others if not np.array_equal(groups, first)]
    if not others:
        return first
    pairs: list[tuple[int, int]] = []
    for groups in (first, *others):
        _, begins, group = np.unique(groups, return_index=True, return_inverse=True)
        again = np.flatnonzero(begins[group] != np.arange(len(groups)))
        pairs += zip(begins[group[again]].tolist(), again.tolist(), strict=True)
    return connected(len(first), pairs)
