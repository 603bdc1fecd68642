"""Rows of different lengths stored in two arrays.

One array contains the concatenated values of all rows, and the other array contains the start of each row. For millions
of short rows, such as image names, the overhead is eight bytes per row. With Python objects, the overhead would be
about eighty bytes per row, and rows could not be shared with other processes through a memory-mapped file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
Offsets = NDArray[np.int64]
BLOCK = 65_536  # rows processed at a time, to keep temporary arrays small


def offsets_of(lengths: NDArray[np.integer[Any]]) -> Offsets:
    """Return an array with the start of each row and the end of the last row.

    Example:
        >>> offsets_of(np.array([2, 0, 3])).tolist()
        [0, 2, 2, 5]
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def taken(values: Values, offsets: Offsets, rows: NDArray[np.integer[Any]]) -> tuple[Values, Offsets]:
    """Return the values and offsets of selected rows, in the order of `rows`.

    Example:
        >>> values, offsets = taken(np.array([5, 6, 7]), np.array([0, 2, 2, 3]), np.array([2, 0]))
        >>> values.tolist(), offsets.tolist()
        ([7, 5, 6], [0, 1, 3])
    """
    starts = offsets[rows]
    ends = offsets_of(offsets[np.asarray(rows) + 1] - starts)
    out = np.empty(int(ends[-1]), dtype=values.dtype)
    for begin in range(0, len(rows), BLOCK):
        end = min(begin + BLOCK, len(rows))
        first, last = ends[begin], ends[end]
        lengths = np.diff(ends[begin : end + 1])
        shift = np.repeat(starts[begin:end] - ends[begin:end], lengths)
        out[first:last] = values[shift + np.arange(first, last)]
    return out, ends


def joined(parts: Iterable[tuple[Values, Offsets]], dtype: Any) -> tuple[Values, Offsets]:
    """Concatenate the rows of all parts."""
    parts = list(parts)
    values = np.concatenate([np.zeros(0, dtype), *(part for part, _ in parts)], dtype=dtype)
    return values, offsets_of(np.concatenate([np.zeros(0, np.int64), *(np.diff(offsets) for _, offsets in parts)]))
