"""Tables in GitHub Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils.errors import escaped

# What Markdown of GitHub reads as more than text. An underscore inside of a word is text, and so is "<" before a
# digit or a space; the rest of its punctuation has a meaning only next to these signs or at the start of a line.
_SPECIAL = re.compile(r"[\\`*\[~|]|(?<![^\W_])_|_(?![^\W_])")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_START = re.compile(r"(?=#{1,6}(?:\s|$)|[-+](?:\s|$)|>|=+\s*$|-[-\s]*$)")
_NUMBERED = re.compile(r"(\d+)(?=[.)](?:\s|$))")


def markdown(tables: Sequence[Table]) -> str:
    """Return tables as Markdown text; the best value in each group is bold."""
    return "\n\n".join(_table(table) for table in tables) + "\n"


def escape(text: str) -> str:
    r"""Escape characters that have a special meaning in GitHub Markdown or HTML.

    Example:
        >>> escape("traffic_light <b> *")
        'traffic_light &lt;b> \\*'
    """
    plain = _TAG.sub("&lt;", _ENTITY.sub("&amp;", escaped(text)))
    return _SPECIAL.sub(r"\\\g<0>", plain)


def _paragraph(text: str) -> str:
    """Escape text so that it is parsed as a paragraph.

    Without escaping, a line could be parsed as a heading, a list or a quotation.
    """
    line = escape(text)
    numbered = _NUMBERED.match(line)
    if numbered:
        return rf"{numbered.group()}\{line[numbered.end() :]}"
    if _START.match(line):
        return "\\" + line
    return line


def _table(table: Table) -> str:
    lines = [f"**{escape(table.title)}**", ""]
    lines.append(_joined(escape(_heading(column)) for column in table.columns))
    lines.append(_joined("---" if column.kind == "text" else "---:" for column in table.columns))
    for title, rows in table.groups():
        if title:
            lines.append(_joined([f"**{escape(title)}**", *[""] * (len(table.columns) - 1)]))
        lines += [_joined(_cell(row, k, column) for k, column in enumerate(table.columns)) for row in rows]
    for note in table.footnotes:
        lines += ["", _paragraph(note)]
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
