"""`Table`: what a report shows, as numbers; how it looks is the business of `formats`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

from mlrec.utils.errors import printable

Cell = float | int | str | None
Kind = Literal["text", "percent", "points", "number", "mean", "count", "p", "seconds"]

UNDEFINED = "–"
MINUS = "−"


def shown(value: float | int | str, kind: Kind) -> str:
    """`value` as people read it.

    Fractions become percent with one decimal, as the paper prints them; differences ("points") carry their sign; a
    "mean" has two decimals; text is made safe for one line of a terminal.
    """
    if isinstance(value, str):
        return printable(value)
    if kind == "percent":
        return percent(value)
    if kind == "points":
        return _signed(100 * value)
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "mean":
        return f"{value:,.2f}"
    if kind == "p":
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if kind == "seconds":
        return f"{value:,.1f}"
    return f"{value:g}".replace("-", MINUS)


def percent(fraction: float | None) -> str:
    """A fraction as percent with one decimal: 0.9428 is `94.3`."""
    return UNDEFINED if fraction is None else f"{100 * fraction:.1f}".replace("-", MINUS)


def one_line(text: str) -> str:
    """`text` in full with its control characters escaped: it may hold names from files of strangers."""
    return "".join(char if char.isprintable() else printable(char) for char in text)


def _signed(points: float) -> str:
    text = f"{points:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


BEST_EPOCH = "†"
INFERRED = "‡"
INFERRED_NOTE = f"{INFERRED} not printed by the paper, inferred"
BEST_EPOCH_NOTE = f"{BEST_EPOCH} the epoch was chosen on the scored split itself: optimistic, no test result"


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: its name in CSV and JSON ("CP_3").
        title: its heading ("CP").
        kind: what its numbers are; "percent" and "points" hold fractions of 1.
        block: a heading over neighbouring columns ("Top-3").
        ranked: the largest number of each group is the best.
        identity: Names the row; repeated if a table is folded to the width of a terminal.
        essential: Kept if a table is wider than the terminal; the other columns need --full.
        absent: what stands for None; blank where the column does not concern a row.
    """

    key: str
    title: str
    kind: Kind = "text"
    block: str = ""
    ranked: bool = False
    identity: bool = False
    essential: bool = False
    absent: str = UNDEFINED

    def show(self, cell: Cell) -> str:
        """A cell of this column as people read it."""
        return self.absent if cell is None else shown(cell, self.kind)


@dataclass(frozen=True)
class Row:
    """One row: a cell for each column, the heading of its group, its best cells and its marks by column position."""

    cells: tuple[Cell, ...]
    group: str = ""
    best: frozenset[int] = frozenset()
    marks: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Title, columns, rows, footnotes. Rows that must not be compared stand in different groups.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"{self.title}: a row has {len(row.cells)} cells for {len(self.columns)} columns")

    def groups(self) -> list[tuple[str, list[Row]]]:
        """Neighbouring rows of the same group, each with its heading."""
        return [(title, list(rows)) for title, rows in groupby(self.rows, key=lambda row: row.group)]

    def blocks(self) -> list[tuple[str, int, int]]:
        """Headings over columns as (block, first column, end); a column without one stands alone."""
        spans: list[tuple[str, int, int]] = []
        for k, column in enumerate(self.columns):
            if spans and column.block and spans[-1][0] == column.block:
                spans[-1] = (column.block, spans[-1][1], k + 1)
            else:
                spans.append((column.block, k, k + 1))
        return spans

    def with_best(self) -> Table:
        """The largest number of each ranked column marked in each group: ties all, a row that stands alone not."""
        ranked = [k for k, column in enumerate(self.columns) if column.ranked]
        rows = [replace(row, best=_best(row, rows, ranked)) for _, rows in self.groups() for row in rows]
        return replace(self, rows=tuple(rows))

    def only(self, positions: Sequence[int]) -> Table:
        """The columns at these positions, in this order."""
        place = {old: new for new, old in enumerate(positions)}
        rows = [
            Row(
                tuple(row.cells[k] for k in positions),
                row.group,
                frozenset(place[k] for k in row.best if k in place),
                {place[k]: mark for k, mark in row.marks.items() if k in place},
            )
            for row in self.rows
        ]
        return replace(self, columns=tuple(self.columns[k] for k in positions), rows=tuple(rows))

    def without_empty_columns(self, keep: Sequence[str] = ()) -> Table:
        """The columns in which some row says something, and those whose keys are in `keep`."""
        used = [
            k
            for k, column in enumerate(self.columns)
            if column.key in keep or any(row.cells[k] not in (None, "") for row in self.rows)
        ]
        return self.only(used)


def _best(row: Row, rows: Sequence[Row], ranked: Sequence[int]) -> frozenset[int]:
    """Positions at which `row` is the best of `rows`, as printed: numbers that print alike are ties."""
    best = set()
    for k in ranked:
        numbers = [_comparable(other.cells[k]) for other in rows]
        known = [number for number in numbers if number is not None]
        if len(known) > 1 and _comparable(row.cells[k]) == max(known):
            best.add(k)
    return frozenset(best)


def _comparable(cell: Cell) -> float | None:
    return None if cell is None or isinstance(cell, str) else round(float(cell), 3)
