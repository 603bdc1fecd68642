"""Terminal tables with aligned columns and decimal points."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils.errors import escaped

GAP = "  "
BEST = "*"
NARROWEST = 12  # columns of a wrapped text
READABLE = 40  # columns of a text that is wrapped instead of folding the table
MORE = "use --full or a wider terminal to show more columns"
CONVENTIONS = re.compile(r"conventions (\S+): .*")
POINTER = r"conventions \1: see docs/explanation/conventions.md"
Parts = Sequence[tuple[str, str]]  # of a row: per column the aligned text, and the marks to the right of it
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


def render_text(tables: Sequence[Table], *, styled: bool = False, columns: int | None = None, full: bool = True) -> str:
    """Format tables for the terminal, one below the other.

    Args:
        tables: Tables to print.
        styled: Whether the best value in a group is bold (ANSI). If not set, the best value is marked with an asterisk.
        columns: Width of the terminal. In a table that is too wide, long texts are wrapped. If the table is still too
            wide, it is split into parts, and each part repeats the identity columns. If None, the width is not limited.
        full: Whether to print all columns and footnotes. If not set, a table that is wider than the terminal and has
            essential columns keeps only these, and the identity columns if they fit. The conventions are then named but
            not explained. If `columns` is None, everything is printed.
    """
    parts = [part for table in tables for part in _fitted(table, columns, full)]
    if columns is not None and not full:
        parts = _with_short_notes(parts)
    return "\n\n".join(_one(part, styled, columns) for part in parts) + "\n"


def _fitted(table: Table, columns: int | None, full: bool) -> list[Table]:
    """Split a table into parts that fit the width of the terminal."""
    if columns is None or _total(table) <= columns:
        return [table]
    if not full and any(column.essential for column in table.columns):
        essential = [k for k, column in enumerate(table.columns) if column.essential]
        named = [k for k, column in enumerate(table.columns) if column.essential or column.identity]
        short = table.only(named)
        if _total(short) > columns:
            short = table.only(essential)
        return [replace(short, footnotes=(*short.footnotes, MORE))]
    return [table] if _fits_wrapped(table, columns) else _folded(table, columns)


def _fits_wrapped(table: Table, columns: int) -> bool:
    """Return whether wrapping the widest text makes the table fit and keeps it readable.

    For example, a column of sentences can be wrapped.
    """
    bodies, _ = _sizes(table, _cells(table, False))
    widest = max((size for size, column in zip(bodies, table.columns, strict=True) if column.kind == "text"), default=0)
    return widest - (_total(table) - columns) >= READABLE


def _folded(table: Table, columns: int) -> list[Table]:
    """Split a wide table into parts, between blocks of columns."""
    names = [k for k, column in enumerate(table.columns) if column.identity]
    sizes = [b + t + len(GAP) for b, t in zip(*_sizes(table, _cells(table, False)), strict=True)]
    parts: list[list[int]] = [[]]
    for _, start, end in table.blocks():
        span = [k for k in range(start, end) if k not in names]
        if parts[-1] and sum(sizes[k] for k in {*names, *parts[-1], *span}) > columns:
            parts.append([])
        parts[-1] += span
    folded = [table.only(sorted({*names, *part})) for part in parts]
    return [replace(part, footnotes=()) for part in folded[:-1]] + folded[-1:]


def _total(table: Table) -> int:
    bodies, tails = _sizes(table, _cells(table, False))
    return sum(bodies) + sum(tails) + len(GAP) * (len(bodies) - 1)


def _with_short_notes(tables: Sequence[Table]) -> list[Table]:
    """Return the tables with short footnotes that name the conventions but do not explain them."""
    seen: set[str] = set()
    short = []
    for table in tables:
        notes = []
        for note in table.footnotes:
            named = CONVENTIONS.sub(POINTER, note)
            if named == note or named not in seen:
                notes.append(named)
            seen.add(named)
        short.append(replace(table, footnotes=tuple(notes)))
    return short


def _one(table: Table, styled: bool, columns: int | None) -> str:
    cells = _cells(table, styled)
    if columns is not None:
        cells = _narrowed(table, cells, columns)
    bodies, tails = _sizes(table, cells)
    size = sum(bodies) + sum(tails) + len(GAP) * (len(bodies) - 1)
    if columns is not None:
        size = min(size, columns)
    rule = "─" * size
    lines = [*_wrapped(escaped(table.title), columns), rule, *_headings(table, bodies, tails), rule]
    drawn = iter(zip(table.rows, cells, strict=True))
    for title, rows in table.groups():
        if title:
            if lines[-1] != rule:
                lines.append("")
            lines += _wrapped(escaped(title), columns)
        for row, parts in (next(drawn) for _ in rows):
            lines += _lines_of(table.columns, row, parts, bodies, tails, styled)
    notes = list(table.footnotes)
    if not styled and any(row.best for row in table.rows):
        notes.insert(0, f"{BEST} best in its {table.best_of}")
    lines.append(rule)
    for note in notes:
        lines += _wrapped(escaped(note), columns)
    return "\n".join(line.rstrip() for line in lines)


def _narrowed(table: Table, cells: list[Parts], columns: int) -> list[Parts]:
    """Wrap the widest texts with line feeds until the table fits."""
    texts = [k for k, column in enumerate(table.columns) if column.kind == "text"]
    while texts:
        bodies, tails = _sizes(table, cells)
        excess = sum(bodies) + sum(tails) + len(GAP) * (len(bodies) - 1) - columns
        widest = max(texts, key=lambda k: bodies[k])
        if excess <= 0 or bodies[widest] <= NARROWEST:
            return cells
        texts.remove(widest)
        cells = [_wrap_cell(parts, widest, max(NARROWEST, bodies[widest] - excess)) for parts in cells]
    return cells


def _wrap_cell(parts: Parts, k: int, size: int) -> Parts:
    body, tail = parts[k]
    return [*parts[:k], ("\n".join(_wrapped(body, size, at_hyphens=True)), tail), *parts[k + 1 :]]


def _wrapped(text: str, columns: int | None, *, at_hyphens: bool = False) -> list[str]:
    """Break text into lines of at most `columns` characters.

    Lines are broken between words, or after a hyphen in a long word.
    """
    if columns is None:
        return [text]
    lines = [""]
    for word in text.split(" "):
        pieces = [word]
        if at_hyphens and width(word) > columns:
            pieces = re.findall(r"[^-]+-*|-+", word)
        for k, piece in enumerate(pieces):
            joined = piece
            if k == 0 and lines[-1]:
                joined = f" {piece}"
            if lines[-1] and width(lines[-1]) + width(joined) > columns:
                lines.append(piece)
            else:
                lines[-1] += joined
    return lines


def _cells(table: Table, styled: bool) -> list[Parts]:
    return [[_body_and_tail(row, k, column, styled) for k, column in enumerate(table.columns)] for row in table.rows]


def _sizes(table: Table, cells: Sequence[Parts]) -> tuple[list[int], list[int]]:
    """Return the width of each column, divided into the text and the marks after it.

    The first column of a block is wide enough for the heading of the block.
    """
    columns = table.columns
    bodies = []
    for k, column in enumerate(columns):
        lines = [line for row in cells for line in row[k][0].split("\n")]
        bodies.append(max([width(column.title), *map(width, lines)]))
    tails = [max([0, *(width(row[k][1]) for row in cells)]) for k in range(len(columns))]
    for block, start, end in table.blocks():
        span = sum(bodies[start:end]) + sum(tails[start:end]) + len(GAP) * (end - start - 1)
        if block:
            bodies[start] += max(0, width(block) + 2 - span)
    return bodies, tails


def _body_and_tail(row: Row, k: int, column: Column, styled: bool) -> tuple[str, str]:
    """Return the aligned text of a cell, and its asterisk and footnote marks."""
    tail = row.marks.get(k, "")
    if k in row.best and not styled:
        tail = BEST + tail
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
        heading = " " * span
        if block:
            heading = f" {block} ".center(span, "┄")
        line += heading + GAP
    return [line, titles]


def _lines_of(
    columns: Sequence[Column], row: Row, parts: Parts, bodies: Sequence[int], tails: Sequence[int], styled: bool
) -> list[str]:
    """Return the lines of a table row; a row with wrapped cells has multiple lines."""
    split = [body.split("\n") for body, _ in parts]
    marks = [tail for _, tail in parts]  # next to the first line of a cell
    lines = []
    for texts in zip_longest(*split, fillvalue=""):
        drawn = []
        for k, column in enumerate(columns):
            padded = _pad(texts[k], bodies[k], column.kind == "text")
            if styled and k in row.best:
                padded = f"{BOLD}{padded}{PLAIN}"
            drawn.append(padded + _pad(marks[k], tails[k], True))
        lines.append(GAP.join(drawn))
        marks = [""] * len(parts)
    return lines


def _pad(cell: str, size: int, left: bool) -> str:
    space = " " * (size - width(cell))
    return cell + space if left else space + cell


def width(cell: str) -> int:
    """Return the width of `cell` in terminal columns.

    The width is two for wide characters and zero for combining characters.
    """
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in cell)
    return len(cell) + wide - sum(unicodedata.combining(char) != 0 for char in cell)
