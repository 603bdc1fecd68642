"""Table cells, stored by column.

A column with few distinct strings takes one byte per cell instead of about fifty bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import overload

import numpy as np
from numpy.typing import NDArray

from mlrec.utils.texts import TextsBuilder, taken

BLOCK = 8192  # records that exist as Python objects at a time
MOST_CODED = 256  # maximum number of distinct strings in a column with one byte per cell


class TextColumn(Sequence[str]):
    """Cells of one table column; if possible, stored as distinct strings and integer codes.

    Attributes:
        texts: Strings to which `codes` refers, or all N strings if `codes` is None.
        codes: (N,) uint8 array with the index of each cell in `texts`, or None.
    """

    __slots__ = ("codes", "texts")

    def __init__(self, texts: Sequence[str], codes: NDArray[np.uint8] | None = None) -> None:
        self.texts, self.codes = texts, codes

    def __len__(self) -> int:
        return len(self.texts) if self.codes is None else len(self.codes)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[row] for row in range(len(self))[place]]
        return self.texts[place] if self.codes is None else self.texts[self.codes[place]]

    def __iter__(self) -> Iterator[str]:
        if self.codes is None:
            yield from self.texts
            return
        for begin in range(0, len(self.codes), BLOCK):
            yield from map(self.texts.__getitem__, self.codes[begin : begin + BLOCK].tolist())

    def take(self, rows: NDArray[np.intp]) -> TextColumn:
        """Return the cells of the given rows, in this order."""
        if self.codes is None:
            return TextColumn(taken(self.texts, rows))
        return TextColumn(self.texts, self.codes[rows])

    def renamed(self, names: Mapping[str, str]) -> TextColumn:
        """Return the column with each string replaced by its value in `names`."""
        if self.codes is None:
            return TextColumn(tuple(names[text] for text in self.texts))
        return TextColumn([names[text] for text in self.texts], self.codes)

    def first_rows(self) -> dict[str, int]:
        """Return the position of the first row of each distinct string, in row order."""
        if self.codes is None:
            rows: dict[str, int] = {}
            for row, text in enumerate(self.texts):
                rows.setdefault(text, row)
            return rows
        codes, first = np.unique(self.codes, return_index=True)
        rows = {}
        for row, code in sorted(zip(first.tolist(), codes.tolist(), strict=True)):
            rows.setdefault(self.texts[code], row)
        return rows


class Rows(Sequence[tuple[str, ...]]):
    """Records of a table, created from the columns on access."""

    __slots__ = ("columns",)

    def __init__(self, columns: Sequence[TextColumn]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    @overload
    def __getitem__(self, row: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, row: slice) -> list[tuple[str, ...]]: ...
    def __getitem__(self, row: int | slice) -> tuple[str, ...] | list[tuple[str, ...]]:
        if isinstance(row, slice):
            return [self[k] for k in range(len(self))[row]]
        return tuple(column[row] for column in self.columns)

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return iter(zip(*self.columns, strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(tuple(mine) == tuple(its) for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def stored(records: Iterable[Sequence[str]], width: int) -> list[TextColumn]:
    """Convert records with `width` cells each to a list of columns."""
    builders = [_ColumnBuilder() for _ in range(width)]
    rest = iter(records)
    while block := list(islice(rest, BLOCK)):
        for builder, cells in zip(builders, zip(*block, strict=True), strict=True):
            builder.extend(cells)
    return [builder.column() for builder in builders]


class _ColumnBuilder:
    """Collects the cells of one column: as codes while there are few distinct strings, then as strings."""

    def __init__(self) -> None:
        self._code: dict[str, int] = {}
        self._codes: list[NDArray[np.uint8]] = []
        self._texts: TextsBuilder | None = None

    def extend(self, cells: Sequence[str]) -> None:
        if self._texts is None:
            new = set(cells).difference(self._code)
            if len(self._code) + len(new) <= MOST_CODED:
                if new:
                    for cell in cells:
                        self._code.setdefault(cell, len(self._code))
                self._codes.append(np.fromiter(map(self._code.__getitem__, cells), np.uint8, len(cells)))
                return
            self._texts = TextsBuilder()
            known = list(self._code)
            for codes in self._codes:
                self._texts.extend([known[code] for code in codes.tolist()])
            self._codes = []
        self._texts.extend(cells)

    def column(self) -> TextColumn:
        if self._texts is not None:
            return TextColumn(self._texts.texts())
        codes, self._codes = np.concatenate([np.zeros(0, np.uint8), *self._codes]), []
        return TextColumn(list(self._code), codes)


def constant(text: str, count: int) -> TextColumn:
    """Return a column that repeats one string."""
    return TextColumn([text], np.zeros(count, dtype=np.uint8))
