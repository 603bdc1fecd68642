"""Tables in GitHub Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mlrec.reports.render.table import Column, Row, Table, one_line

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~-])")


def markdown(tables: Sequence[Table]) -> str:
    """Return tables one below the other; the best of a group is bold."""
    return "\n\n".join(_table(table) for table in tables) + "\n"


def escape(text: str) -> str:
    r"""Escape the special characters of Markdown and HTML.

    Example:
        >>> escape("traffic_light <b>")
        'traffic\\_light &lt;b&gt;'
    """
    without_html = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", without_html)


def _table(table: Table) -> str:
    lines = [f"**{escape(table.title)}**", ""]
    lines.append(_joined(escape(_heading(column)) for column in table.columns))
    lines.append(_joined("---" if column.kind == "text" else "---:" for column in table.columns))
    for title, rows in table.groups():
        if title:
            lines.append(_joined([f"**{escape(title)}**", *[""] * (len(table.columns) - 1)]))
        lines += [_joined(_cell(row, k, column) for k, column in enumerate(table.columns)) for row in rows]
    for note in table.footnotes:
        lines += ["", escape(note)]
    return "\n".join(lines)


def _heading(column: Column) -> str:
    return f"{column.block} {column.title}".strip()


def _cell(row: Row, k: int, column: Column) -> str:
    text = column.show(row.cells[k])
    if column.kind == "text":
        text = escape(text)
    if k in row.best:
        text = f"**{text}**"
    if row.marks.get(k):
        text += f"<sup>{escape(row.marks[k])}</sup>"
    return text


def _joined(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
