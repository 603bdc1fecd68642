"""Tables of metrics, which the other modules of this package convert to text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from mlrec.utils.errors import printable

if TYPE_CHECKING:
    from pandas import DataFrame

Cell = float | int | str | None
Kind = Literal["text", "percent", "points", "number", "mean", "count", "p", "seconds"]

UNDEFINED = "–"
MINUS = "−"


def shown(value: float | int | str, kind: Kind) -> str:
    """Format a value for printing.

    Fractions are printed as percentages with one decimal, as in the paper. Differences ("points") have a sign. Values
    of kind "mean" have two decimals. Control characters in text are escaped.

    Args:
        value: Cell value.
        kind: Kind of the values in the column, for example "percent" or "count".

    Example:
        >>> shown(0.9428, "percent"), shown(0.012, "points"), shown(5823, "count")
        ('94.3', '+1.2', '5,823')
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
    if kind == "p" and value < 0.001:
        return "<0.001"
    if kind == "p":
        return f"{value:.3f}"
    if kind == "seconds":
        return f"{value:,.1f}"
    return f"{value:g}".replace("-", MINUS)


def percent(fraction: float | None) -> str:
    """Format a fraction as a percentage with one decimal, or as a dash if it is None.

    Example:
        >>> percent(0.9428)
        '94.3'
    """
    if fraction is None:
        return UNDEFINED
    return f"{100 * fraction:.1f}".replace("-", MINUS)


def _signed(points: float) -> str:
    text = f"{points:+.1f}"
    if text in ("+0.0", "-0.0"):
        return "0.0"
    return text.replace("-", MINUS)


BEST_EPOCH = "†"
INFERRED = "‡"
INFERRED_NOTE = f"{INFERRED} inferred value that is not printed in the paper"
BEST_EPOCH_NOTE = (
    f"{BEST_EPOCH} the epoch was chosen on the scored split itself, so the result is optimistic and not a test result"
)


@dataclass(frozen=True)
class Column:
    """Column of a table, with its heading and number format.

    Attributes:
        key: Name in CSV and JSON, such as "CP_3".
        title: Heading, such as "CP".
        kind: Kind of the values; values of kind "percent" and "points" are fractions.
        block: Heading shared by adjacent columns, such as "Top-3".
        ranked: Whether the largest number in each group is marked as the best.
        identity: Whether the column identifies the row. If a wide table is split into parts, each part repeats these
            columns.
        essential: Whether the column is kept if a table is wider than the terminal; other columns are printed only with
            --full.
        absent: Text that is shown for None; empty for a column that does not apply to every row.
        centred: Whether text is centered, as for check marks.
    """

    key: str
    title: str
    kind: Kind = "text"
    block: str = ""
    ranked: bool = False
    identity: bool = False
    essential: bool = False
    absent: str = UNDEFINED
    centred: bool = False

    def show(self, cell: Cell) -> str:
        """Format a cell of this column for printing."""
        if cell is None:
            return self.absent
        return shown(cell, self.kind)


@dataclass(frozen=True)
class Row:
    """Row of a table, with marks for the best cells and for footnotes.

    Attributes:
        cells: One cell per column.
        group: Heading of the group.
        best: Positions of the cells with the best value in the group.
        marks: Dict from cell position to footnote mark.
        cite: Key of the cited paper in `citations.bib`; "" for the user's runs.
    """

    cells: tuple[Cell, ...]
    group: str = ""
    best: frozenset[int] = frozenset()
    marks: Mapping[int, str] = field(default_factory=dict)
    cite: str = ""


@dataclass(frozen=True)
class Table:
    """Table with a title, columns, groups of comparable rows, and footnotes.

    Attributes:
        title: Title of the table.
        columns: Columns of the table.
        rows: Rows of the table; rows in the same group are adjacent.
        footnotes: Footnotes of the table.
        caption: LaTeX caption, without a number; by default, the title.
        best_of: Range in which the best cell is marked, "block" or "row"; a footnote contains this word.
        label: Name of the table for LaTeX references; by default, a name derived from the title.
        name: Short name of the table, also used as the sheet name in an Excel file.

    Raises:
        ValueError: A row does not have one cell per column.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...] = ()
    best_of: str = "block"
    caption: str = ""
    label: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"{self.title}: a row has {len(row.cells)} cells for {len(self.columns)} columns")

    def to_frame(self) -> DataFrame:
        """Return the table as a data frame that also contains the group and the footnote marks of each row.

        The columns of the data frame are named by `Column.key`. Fractions have full precision, and undefined cells are
        missing values.
        """
        import pandas as pd

        columns: dict[str, list[Cell]] = {"group": [row.group for row in self.rows]}
        columns |= {column.key: [row.cells[k] for row in self.rows] for k, column in enumerate(self.columns)}
        columns["marks"] = [" ".join(mark for _, mark in sorted(row.marks.items())) for row in self.rows]
        return pd.DataFrame({key: pd.array(cells, dtype=_dtype(cells)) for key, cells in columns.items()})

    def groups(self) -> list[tuple[str, list[Row]]]:
        """Return the heading and the rows of each group."""
        return [(title, list(rows)) for title, rows in groupby(self.rows, key=lambda row: row.group)]

    def blocks(self) -> list[tuple[str, int, int]]:
        """Return the headings above columns as tuples (heading, first column, end column).

        A column without a block is returned as a separate block.
        """
        spans: list[tuple[str, int, int]] = []
        for k, column in enumerate(self.columns):
            if spans and column.block and spans[-1][0] == column.block:
                spans[-1] = (column.block, spans[-1][1], k + 1)
            else:
                spans.append((column.block, k, k + 1))
        return spans

    def with_best(self) -> Table:
        """Return the table with the best cells marked.

        The best cell is the largest number in a ranked column within a group. Numbers that are equal as
        printed are all marked; a column with only one number in a group has no mark.
        """
        ranked = [k for k, column in enumerate(self.columns) if column.ranked]
        rows = [replace(row, best=_best(row, rows, ranked)) for _, rows in self.groups() for row in rows]
        return replace(self, rows=tuple(rows))

    def only(self, positions: Sequence[int]) -> Table:
        """Return the table with the columns at these positions, in this order."""
        new_position = {old: new for new, old in enumerate(positions)}
        rows = []
        for row in self.rows:
            cells = tuple(row.cells[k] for k in positions)
            best = frozenset(new_position[k] for k in row.best if k in new_position)
            marks = {new_position[k]: mark for k, mark in row.marks.items() if k in new_position}
            rows.append(replace(row, cells=cells, best=best, marks=marks))
        return replace(self, columns=tuple(self.columns[k] for k in positions), rows=tuple(rows))

    def without_empty_columns(self, keep: Sequence[str] = ()) -> Table:
        """Return the table without empty columns.

        Args:
            keep: Keys of columns to keep even if they are empty.
        """
        used = [
            k
            for k, column in enumerate(self.columns)
            if column.key in keep or any(row.cells[k] not in (None, "") for row in self.rows)
        ]
        return self.only(used)


def _dtype(cells: Sequence[Cell]) -> str:
    """Return a pandas dtype that fits the cells of a column and supports missing values."""
    known = [cell for cell in cells if cell is not None]
    if any(isinstance(cell, str) for cell in known):
        return "object"
    if known and all(isinstance(cell, int) for cell in known):
        return "Int64"  # with room for missing values, unlike int64
    return "float64"


def _best(row: Row, rows: Sequence[Row], ranked: Sequence[int]) -> frozenset[int]:
    """Return the positions at which `row` has the best number in `rows`; numbers are compared as printed."""
    best = set()
    for k in ranked:
        numbers = [_comparable(other.cells[k]) for other in rows]
        known = [number for number in numbers if number is not None]
        if len(known) > 1 and _comparable(row.cells[k]) == max(known):  # a single number is not the best of any
            best.add(k)
    return frozenset(best)


def _comparable(cell: Cell) -> float | None:
    """Return the number in a cell, rounded as printed, or None if the cell contains no number."""
    if cell is None or isinstance(cell, str):
        return None
    return round(float(cell), 3)
