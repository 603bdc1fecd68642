"""Tables as text: for a terminal, Markdown, LaTeX, CSV and JSON.

Formats for people (terminal, Markdown, LaTeX) contain percent with one decimal, and a dash for undefined values.
Formats for programs (CSV, JSON) contain fractions of 1 in full precision, and nothing or null for undefined values.
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
    """Return tables as CSV: a line of column keys, one line per row, an empty line between tables.

    Text that a spreadsheet would take for a formula gets a leading apostrophe.
    """
    parts = []
    for table in tables:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["group", *(column.key for column in table.columns), "marks"])
        for row in table.rows:
            marks = " ".join(mark for _, mark in sorted(row.marks.items()))
            writer.writerow([_without_formula(cell) for cell in (row.group, *row.cells, marks)])
        parts.append(stream.getvalue())
    return "\n".join(parts)


def json_text(tables: Sequence[Table]) -> str:
    """Return tables as JSON: one object per table, in a list if there are several."""
    content: Any = [_as_dict(table) for table in tables]
    if len(content) == 1:
        content = content[0]
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def _as_dict(table: Table) -> dict[str, Any]:
    keys = [column.key for column in table.columns]
    rows = []
    for row in table.rows:
        extra: dict[str, Any] = {"group": row.group, "best": [keys[k] for k in sorted(row.best)]}
        extra["marks"] = {keys[k]: mark for k, mark in sorted(row.marks.items())}
        rows.append(dict(zip(keys, row.cells, strict=True)) | extra)
    columns = [{"key": c.key, "title": c.title, "block": c.block, "kind": c.kind} for c in table.columns]
    return {"title": table.title, "columns": columns, "rows": rows, "footnotes": list(table.footnotes)}


def _without_formula(cell: Cell) -> Cell:
    """Quote text that a spreadsheet would take for a formula: `=1+1` becomes `'=1+1`."""
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
SUFFIXES = {
    ".txt": "table", ".md": "md", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html",
    ".pdf": "pdf",
}  # fmt: skip


def format_of(asked: str | None, out: Path | None) -> str:
    """Return the format of a report: the one named, otherwise that of the file ending, otherwise "table".

    Args:
        asked: Name of a format, or None.
        out: File that is written, or None for stdout.

    Raises:
        UsageError: Unknown format or ending, or an ending that belongs to another format.

    Example:
        >>> format_of(None, Path("report.tex"))
        'latex'
    """
    names = (*FORMATS, "html", "pdf")
    if asked is not None and asked not in names:
        raise UsageError(f"--format {printable(asked)}: choose one of {', '.join(names)}")
    if out is None or (asked is not None and not out.suffix):  # /dev/stdout, or a name without an ending
        return asked or "table"
    ending_format = SUFFIXES[check_ending(out, SUFFIXES, "--out")]
    if asked is not None and asked != ending_format:
        raise UsageError(
            f"--format {asked} --out {printable(out)}: this ending means {ending_format}; change one of the two"
        )
    return ending_format
