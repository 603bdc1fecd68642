"""Tables as GitHub Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mlrec.reports.render.table import Column, Row, Table, one_line

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~-])")


def markdown(tables: Sequence[Table]) -> str:
    """Tables one below the other; the best of a group is bold, a group's heading is a row of its own."""
    return "\n\n".join(_one(table) for table in tables) + "\n"


def escape(text: str) -> str:
    """`text` as it is, whatever signs of Markdown or HTML are in it."""
    harmless = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", harmless)


def _one(table: Table) -> str:
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
    text = escape(column.show(row.cells[k])) if column.kind == "text" else column.show(row.cells[k])
    bold = f"**{text}**" if k in row.best else text
    mark = row.marks.get(k, "")
    return f"{bold}<sup>{escape(mark)}</sup>" if mark else bold


def _joined(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
