"""Conversion of tables to text for the terminal, Markdown, LaTeX, CSV and JSON.

Formats for reading (terminal, Markdown, LaTeX) contain percentages with one decimal; undefined values are dashes.
Formats for programs (CSV, JSON) contain fractions in full precision; undefined values are empty or null.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlrec.reports.render.latex import latex
from mlrec.reports.render.markdown import markdown
from mlrec.reports.render.table import Table
from mlrec.reports.render.terminal import render_text
from mlrec.utils import frame_files
from mlrec.utils.errors import UsageError
from mlrec.utils.files import check_ending


def csv_text(tables: Sequence[Table]) -> str:
    """Return tables as CSV, with an empty line between tables.

    Each table has a header line with column keys, and one line per row.
    """
    return "\n".join(frame_files.csv_text(table.to_frame()) for table in tables)


def write_tables(tables: Sequence[Table], path: Path) -> None:
    """Write tables as CSV, Excel or Parquet; see `frame_files.write_frames`.

    Raises:
        MlrecError: The file cannot be written, or a package is not installed.
    """
    frames = {table.name or f"{table.title} {k}".strip(): table.to_frame() for k, table in enumerate(tables, 1)}
    frame_files.write_frames(frames, path)


def json_text(tables: Sequence[Table]) -> str:
    """Return tables as JSON: one object for one table, a list of objects for multiple tables."""
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


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "table": render_text,
    "md": markdown,
    "latex": latex,
    "csv": csv_text,
    "json": json_text,
}
OTHER_FORMATS = ("html", "pdf", "xlsx", "parquet")  # html and pdf are made elsewhere; the others are not text
SUFFIXES = {".txt": "table", ".md": "md", ".tex": "latex", ".json": "json", ".html": "html", ".pdf": "pdf"}
SUFFIXES |= frame_files.ENDINGS


def format_of(asked: str | None, out: Path | None) -> str:
    """Return the format of a report.

    The result is the requested format if there is one, otherwise the format of the file extension, otherwise "table".

    Args:
        asked: Name of the requested format, or None.
        out: File to write, or None for stdout.

    Raises:
        UsageError: The format or extension is unknown, or the extension belongs to a different format. Also raised if
            Excel or Parquet is requested without a file, or if a package of the extra `tables` is not installed.

    Example:
        >>> format_of(None, Path("report.tex"))
        'latex'
    """
    names = (*FORMATS, *OTHER_FORMATS)
    if asked is not None and asked not in names:
        raise UsageError(f"--format {asked}: unknown format; choose one of {', '.join(names)}")
    if out is None and asked in ("xlsx", "parquet"):
        raise UsageError(f"--format {asked} is not a text format; write to a file with --out NAME.{asked}")
    if out is None or (asked is not None and not out.suffix):  # /dev/stdout, or a name without an ending
        return asked or "table"
    frame_files.check_package(out)
    ending_format = SUFFIXES[check_ending(out, SUFFIXES, "--out")]
    if asked is not None and asked != ending_format:
        raise UsageError(
            f"--format {asked} --out {out}: the file extension selects {ending_format} output; change one of the two "
            "options"
        )
    return ending_format
