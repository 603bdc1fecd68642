"""Tables for a terminal: aligned columns, digits under digits."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from mlrec.reports.render.table import Column, Row, Table, one_line

GAP = "  "
BEST = "*"
Parts = Sequence[tuple[str, str]]  # of a row: for each column what is aligned, and what hangs over on the right
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


def render_text(tables: Sequence[Table], *, styled: bool = False, columns: int | None = None) -> str:
    """Tables one below the other.

    The best of a group is bold when `styled` (ANSI), else marked with an asterisk. A table wider than `columns` is
    folded between its blocks, the columns that name its rows repeated.
    """
    return "\n\n".join(_one(part, styled) for table in tables for part in _folded(table, columns)) + "\n"


def _folded(table: Table, columns: int | None) -> list[Table]:
    names = [k for k, column in enumerate(table.columns) if column.identity]
    if columns is None or not names:
        return [table]
    sizes = [b + t + len(GAP) for b, t in zip(*_sizes(table, _cells(table, False)), strict=True)]
    parts: list[list[int]] = [[]]
    for _, start, end in table.blocks():
        span = [k for k in range(start, end) if k not in names]
        if parts[-1] and sum(sizes[k] for k in {*names, *parts[-1], *span}) > columns:
            parts.append([])
        parts[-1] += span
    folded = [table.only(sorted({*names, *part})) for part in parts]
    return [replace(part, footnotes=()) for part in folded[:-1]] + folded[-1:]


def _one(table: Table, styled: bool) -> str:
    cells = _cells(table, styled)
    bodies, tails = _sizes(table, cells)
    rule = "─" * (sum(bodies) + sum(tails) + len(GAP) * (len(bodies) - 1))
    lines = [one_line(table.title), rule, *_headings(table, bodies, tails), rule]
    drawn = iter(zip(table.rows, cells, strict=True))
    for title, rows in table.groups():
        if title:
            lines += ([] if lines[-1] == rule else [""]) + [one_line(title)]
        for row, parts in (next(drawn) for _ in rows):
            lines.append(_line(table.columns, row, parts, bodies, tails, styled))
    if not styled and any(row.best for row in table.rows):
        notes = [f"{BEST} best of its block", *table.footnotes]
    else:
        notes = list(table.footnotes)
    return "\n".join(line.rstrip() for line in [*lines, rule, *map(one_line, notes)])


def _cells(table: Table, styled: bool) -> list[Parts]:
    return [[_body_and_tail(row, k, column, styled) for k, column in enumerate(table.columns)] for row in table.rows]


def _sizes(table: Table, cells: Sequence[Parts]) -> tuple[list[int], list[int]]:
    """The widest body (or title) and tail of each column; the first of a block makes room for its heading."""
    columns = table.columns
    bodies = [max([width(column.title), *(width(row[k][0]) for row in cells)]) for k, column in enumerate(columns)]
    tails = [max([0, *(width(row[k][1]) for row in cells)]) for k in range(len(columns))]
    for block, start, end in table.blocks():
        span = sum(bodies[start:end]) + sum(tails[start:end]) + len(GAP) * (end - start - 1)
        bodies[start] += max(0, width(block) + 2 - span) if block else 0
    return bodies, tails


def _body_and_tail(row: Row, k: int, column: Column, styled: bool) -> tuple[str, str]:
    """What is aligned, and what hangs over it on the right: asterisk and footnote marks."""
    tail = (BEST if k in row.best and not styled else "") + row.marks.get(k, "")
    body = column.show(row.cells[k])
    return (f"{body} {tail}".rstrip(), "") if column.kind == "text" else (body, tail)


def _headings(table: Table, bodies: Sequence[int], tails: Sequence[int]) -> list[str]:
    titles = GAP.join(
        _pad(c.title, b, c.kind == "text") + " " * t for c, b, t in zip(table.columns, bodies, tails, strict=True)
    )
    if not any(column.block for column in table.columns):
        return [titles]
    line = ""
    for block, start, end in table.blocks():
        span = sum(bodies[start:end]) + sum(tails[start:end]) + len(GAP) * (end - start - 1)
        line += (f" {block} ".center(span, "┄") if block else " " * span) + GAP
    return [line, titles]


def _line(
    columns: Sequence[Column],
    row: Row,
    parts: Parts,
    bodies: Sequence[int],
    tails: Sequence[int],
    styled: bool,
) -> str:
    drawn = []
    for k, (column, (body, tail)) in enumerate(zip(columns, parts, strict=True)):
        padded = _pad(body, bodies[k], column.kind == "text")
        bold = styled and k in row.best
        drawn.append((f"{BOLD}{padded}{PLAIN}" if bold else padded) + tail + " " * (tails[k] - width(tail)))
    return GAP.join(drawn)


def _pad(cell: str, size: int, left: bool) -> str:
    space = " " * (size - width(cell))
    return cell + space if left else space + cell


def width(cell: str) -> int:
    """Terminal columns that `cell` takes: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in cell
    )
