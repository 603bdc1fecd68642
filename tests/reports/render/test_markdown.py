"""Markdown shows every name as it is, without needless backslashes; checked by a Markdown parser."""

from __future__ import annotations

import html
import random
import re

import pytest
from markdown_it import MarkdownIt

from mlrec.reports.render.markdown import escape, markdown
from mlrec.reports.render.table import Column, Row, Table

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
SIGNS = "ab_*`[]()!<>&;#|~\\-+=1. :/\"'"
NAMES = (
    "traffic_light", "_a_", "a_ b", "__init__", "*x*", "a*b*c", "ViT-L/16 + CSRA*", "<b>x</b>", "p<0.001", "a < b",
    "AT&T", "&amp;", "[x](y)", "![i](u)", "~~s~~", "a|b", "x\\*y", "\\", "# h", "- l", "+ l", "1. x", "2) x", "> q",
    "===", "---",
)  # fmt: skip


def table_of(name: str) -> Table:
    columns = (Column("n", "n"), Column("m", "m", ranked=True))
    return Table(name, columns, (Row((name, name), name, frozenset({1})),), (name,))


def random_names(count: int) -> list[str]:
    draw = random.Random(0)
    names = ("".join(draw.choice(SIGNS) for _ in range(draw.randint(1, 9))).strip() for _ in range(count))
    return [name for name in names if name]


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def test_every_name_is_shown_as_it_is() -> None:
    for name in (*NAMES, *random_names(1500)):
        page = PARSER.render(markdown([table_of(name)]))
        cells = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
        assert [text_of(cell) for cell in cells] == [name, "", name, name], name
        assert cells[2] == html.escape(name, quote=False).replace('"', "&quot;"), name  # no markup of its own
        title, note = page.splitlines()[0], page.splitlines()[-1]
        assert text_of(title) == name, name
        assert note == f"<p>{cells[2]}</p>", name


@pytest.mark.parametrize(
    "name", ["ResNet-101 + CSRA, λ = 0.5", "traffic_light", "p < 0.05", "MS-COCO 2014 (val), 95% · 448 px!", "AT&T"]
)
def test_ordinary_names_have_no_backslash(name: str) -> None:
    assert escape(name) == name
