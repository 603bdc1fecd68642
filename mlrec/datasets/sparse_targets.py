"""`SparseTargets`: targets that store only the positive and unknown labels of each sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.utils import ragged

POSITIVE, NEGATIVE, UNKNOWN = 1, 0, -1
CELLS = 2**23  # cells of a dense block


# Position of the first sample in a block; then the row in the block, the column and the value of each code.
Block = tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]


class SparseTargets:
    """(N, C) targets in sparse form; only positive and unknown labels are stored, as integer codes.

    Each stored label takes two bytes, or four bytes if there are more than 32,767 labels.

    Attributes:
        codes: (E,) array with the codes of the stored labels: k if the label in column k is positive, and `-1 - k` if
            it is unknown. The codes are sorted by sample, then by column.
        offsets: (N + 1,) int64 array with the start position of each sample in `codes`, followed by E.
        labels: Number of columns C.

    Example:
        >>> targets = SparseTargets.of(np.array([[1, -1, 0], [0, 0, 0]], dtype=np.int8))
        >>> targets.codes.tolist(), targets.offsets.tolist(), targets.dense().tolist()
        ([0, -2], [0, 2, 2], [[1, -1, 0], [0, 0, 0]])
    """

    def __init__(self, codes: NDArray[Any], offsets: NDArray[np.int64], labels: int) -> None:
        self.codes, self.offsets, self.labels = codes, offsets, labels

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (N, C)."""
        return len(self.offsets) - 1, self.labels

    @classmethod
    def of(cls, dense: NDArray[np.int8]) -> SparseTargets:
        """Convert dense (N, C) targets with the values 1, 0 and -1 to sparse targets."""
        samples, labels = dense.shape
        parts = []
        step = max(CELLS // max(labels, 1), 1)
        for begin in range(0, samples, step):
            block = dense[begin : begin + step]
            rows, columns = np.nonzero((block == POSITIVE) | (block == UNKNOWN))
            values = block[rows, columns]
            parts.append((coded(columns, values, labels), ragged.offsets_of(np.bincount(rows, minlength=len(block)))))
        return cls(*ragged.joined(parts, code_type(labels)), labels)

    def dense(self) -> NDArray[np.int8]:
        """Return a dense (N, C) array of 1 (positive), 0 (negative) or -1 (unknown)."""
        targets = np.zeros(self.shape, dtype=np.int8)
        for begin, rows, columns, values in self.blocks():
            targets[begin + rows, columns] = values
        return targets

    def blocks(self, size: int = ragged.BLOCK) -> Iterator[Block]:
        """Iterate over blocks of `size` samples."""
        for begin in range(0, len(self.offsets) - 1, size):
            ends = np.asarray(self.offsets[begin : begin + size + 1])
            codes = self.codes[ends[0] : ends[-1]].astype(np.int64)
            rows = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
            yield begin, rows, columns_of(codes), np.where(codes < 0, UNKNOWN, POSITIVE).astype(np.int8)

    def __getitem__(self, sample: int) -> NDArray[Any]:
        """Return the codes of a sample."""
        return self.codes[self.offsets[sample] : self.offsets[sample + 1]]

    def take(self, samples: NDArray[np.integer[Any]]) -> SparseTargets:
        """Return the targets of the given samples, in this order."""
        return SparseTargets(*ragged.taken(self.codes, self.offsets, samples), self.labels)

    def choose(self, columns: Sequence[int] | NDArray[np.integer[Any]]) -> SparseTargets:
        """Return the targets in the given columns, in this order."""
        place = np.full(self.labels, -1, dtype=np.int64)
        place[np.asarray(columns, dtype=np.intp)] = np.arange(len(columns))
        parts = []
        for begin, rows, own, values in self.blocks():
            size = min(ragged.BLOCK, self.shape[0] - begin)
            new = place[own]
            order = np.lexsort((new, rows))
            order = order[new[order] >= 0]
            codes = coded(new[order], values[order], len(columns))
            parts.append((codes, ragged.offsets_of(np.bincount(rows[order], minlength=size))))
        return SparseTargets(*ragged.joined(parts, code_type(len(columns))), len(columns))

    def rows(self, samples: NDArray[np.integer[Any]]) -> NDArray[np.int8]:
        """Return a dense (len(samples), C) array with the targets of the given samples."""
        return self.take(samples).dense()

    def counts(self, value: int) -> NDArray[np.int64]:
        """Return a (C,) array with the number of samples that have the target `value`, for each label."""
        if value == NEGATIVE:
            return self.shape[0] - self.counts(POSITIVE) - self.counts(UNKNOWN)
        total = np.zeros(self.labels, dtype=np.int64)
        for _, _, columns, values in self.blocks():
            total += np.bincount(columns[values == value], minlength=self.labels)
        return total

    def per_sample(self, value: int) -> NDArray[np.int64]:
        """Return an (N,) array with the number of stored labels (positive or unknown) of each sample."""
        totals = np.zeros(self.shape[0], dtype=np.int64)
        for begin, rows, _, values in self.blocks():
            size = min(ragged.BLOCK, len(totals) - begin)
            totals[begin : begin + size] = np.bincount(rows[values == value], minlength=size)
        return totals


def sparse(targets: NDArray[np.int8] | SparseTargets) -> SparseTargets:
    """Return targets in sparse form; dense targets are converted."""
    return targets if isinstance(targets, SparseTargets) else SparseTargets.of(targets)


def code_type(labels: int) -> Any:
    """Return the smallest integer dtype that can store the codes for this number of labels."""
    return np.int16 if labels <= 2**15 else np.int32


def coded(columns: NDArray[np.integer[Any]], values: NDArray[np.int8], labels: int) -> NDArray[Any]:
    """Convert columns and their target values to codes; see `SparseTargets`."""
    return np.where(values == POSITIVE, columns, -1 - columns).astype(code_type(labels))


def columns_of(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the target column for each code."""
    return np.where(codes < 0, -1 - codes, codes)


def joined(parts: Sequence[SparseTargets]) -> SparseTargets:
    """Concatenate sparse targets with the same labels."""
    labels = parts[0].labels if parts else 0
    return SparseTargets(*ragged.joined([(part.codes, part.offsets) for part in parts], code_type(labels)), labels)
