"""Tables as text: for a terminal, Markdown, LaTeX, CSV and JSON.

People's formats (terminal, Markdown, LaTeX) hold what is printed: percent with one decimal, a dash where undefined.
Programs' formats (CSV, JSON) hold the numbers themselves: fractions of 1 in full precision, empty or null.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlrec.reports.render.latex import latex
from mlrec.reports.render.markdown import markdown
from mlrec.reports.render.table import Cell, Table
from mlrec.reports.render.terminal import render_text
from mlrec.utils.errors import UsageError, printable
from mlrec.utils.files import check_ending


def csv_text(tables: Sequence[Table]) -> str:
    """Comma-separated: a heading line of column keys, one line a row, a blank line between tables.

    Text that a spreadsheet would take for a formula gets a leading apostrophe.
    """
    parts = []
    for table in tables:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["group", *(column.key for column in table.columns), "marks"])
        for row in table.rows:
            marks = " ".join(mark for _, mark in sorted(row.marks.items()))
            writer.writerow([_harmless(cell) for cell in (row.group, *row.cells, marks)])
        parts.append(stream.getvalue())
    return "\n".join(parts)


def json_text(tables: Sequence[Table]) -> str:
    """One object a table (title, columns, rows by key, footnotes); a list of them unless there is just one."""
    values = [_plain(table) for table in tables]
    return json.dumps(values[0] if len(values) == 1 else values, indent=2, ensure_ascii=False, allow_nan=False)


def _plain(table: Table) -> dict[str, Any]:
    keys = [column.key for column in table.columns]
    rows = []
    for row in table.rows:
        extra: dict[str, Any] = {"group": row.group, "best": [keys[k] for k in sorted(row.best)]}
        extra["marks"] = {keys[k]: mark for k, mark in sorted(row.marks.items())}
        rows.append(dict(zip(keys, row.cells, strict=True)) | extra)
    columns = [{"key": c.key, "title": c.title, "block": c.block, "kind": c.kind} for c in table.columns]
    return {"title": table.title, "columns": columns, "rows": rows, "footnotes": list(table.footnotes)}


def _harmless(cell: Cell) -> Cell:
    """Text as a spreadsheet may open it: `=1+1` is a formula to it, `'=1+1` is not."""
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + cell
    return cell


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "table": render_text,
    "md": markdown,
    "latex": latex,
    "csv": csv_text,
    "json": json_text,
}
SUFFIXES = {".txt": "table", ".md": "md", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html"}


def format_of(asked: str | None, out: Path | None) -> str:
    """Return the format of a report: the one named, else that of the ending of `out`, else a table for a terminal.

    Args:
        asked: Name of a format, or None.
        out: File that is written, or None for stdout.

    Raises:
        UsageError: unknown format, unknown ending, or an ending of another format than the one named.
    """
    names = (*FORMATS, "html")
    if asked is not None and asked not in names:
        raise UsageError(f"--format {printable(asked)}: choose one of {', '.join(names)}")
    if out is None or (asked is not None and not out.suffix):  # /dev/stdout, or a name without an ending
        return asked or "table"
    ending_format = SUFFIXES[check_ending(out, SUFFIXES, "--out")]
    if asked is not None and asked != ending_format:
        raise UsageError(
            f"--format {asked} --out {printable(out)}: that ending is {ending_format}'s; choose one of both"
        )
    return ending_format
