"""The page: whole in itself, harmless whatever a name is, and working in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mlrec.reports.render.html import Facts, PageGallery, Picture, SampleCard, Section, SummaryCard, page
from mlrec.reports.render.table import Column, Row, Table

EVIL = "<script>document.title='taken'</script>\"'>&{{7*7}}"
TABLE = Table(
    EVIL,
    (
        Column("method", "Method"),
        Column("mAP", "mAP", "percent", ranked=True),
        Column("CP", "CP", "percent", block="All"),
    ),
    (
        Row((EVIL, 0.5, None), "one"),
        Row(("b", 0.9, 0.25), "one", marks={1: "†"}),
        Row(("c", 0.7, 0.5), "one"),
        Row(("alone", 0.1, None), "two"),
    ),
    (EVIL,),
).with_best()
PIXEL = Picture(b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "image/svg+xml", EVIL)
PAGE = page(
    EVIL,
    [TABLE],
    [PIXEL],
    [
        PageGallery(
            EVIL, EVIL, (Section(EVIL, (SampleCard(EVIL, (EVIL,), PIXEL, (PIXEL,)), SampleCard("gone"))),), PIXEL
        )
    ],
    [Facts(EVIL, {EVIL: EVIL})],
    [SummaryCard(EVIL, EVIL, EVIL)],
)


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read() -> Reader:
    reader = Reader()
    reader.feed(PAGE)
    assert reader.open == []
    return reader


def test_names_are_escaped_everywhere():
    assert [tag for tag, _ in read().tags].count("script") == 1
    assert "{{7*7}}" in PAGE
    assert ">49" not in PAGE
    for _, attributes in read().tags:
        assert not any(name.startswith("on") for name in attributes)


def test_the_page_loads_nothing_external():
    for tag, attributes in read().tags:
        for name in ("src", "href", "action", "srcset", "data"):
            if name in attributes:
                assert (tag, name) == ("img", "src")
                assert str(attributes[name]).startswith("data:image/")
    assert "@import" not in PAGE
    assert not re.search(r"url\(", PAGE)
    policy = next(a["content"] for tag, a in read().tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_cells_have_their_numbers_as_attributes_and_the_best_is_bold():
    assert '<td data-value="0.9"><strong>90.0</strong><sup>†</sup></td>' in PAGE
    assert '<td data-value="">–</td>' in PAGE
    assert PAGE.count("<tbody>") == 2
    assert "image not available" in PAGE


def test_a_long_name_may_be_broken_after_an_underscore_only():
    table = Table("t", (Column("backbone", "Backbone"),), (Row(("tf_<b>_lite0",)),))
    assert ">tf_<wbr>&lt;b&gt;_<wbr>lite0</td>" in page("t", [table])


def test_map_follows_the_first_column_and_its_neighbours_follow_it():
    keys = ("method", "backbone", "lam", "mAP", "CP", "sd")
    table = Table("t", tuple(Column(key, key, "percent") for key in keys), (Row((0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),))
    text = page("t", [table])
    assert re.findall(r'<button type="button">(\w+)</button>', text) == ["method", "mAP", "sd", "lam", "backbone", "CP"]
    assert re.findall(r'data-value="([^"]+)"', text) == ["0.1", "0.4", "0.6", "0.3", "0.2", "0.5"]


def test_a_folded_figure_is_below_the_others_in_details():
    shown, folded = Picture(b"a", "image/png", "first"), Picture(b"b", "image/png", "second", folded=True)
    text = page("t", [], [folded, shown])
    details = text[text.index("<details>") : text.index("</details>")]
    assert folded.source in details
    assert shown.source not in details
    assert text.index(shown.source) < text.index("<details>")


def test_the_page_has_both_schemes_a_switch_and_a_dialog_without_a_browser_to_look():
    """What holds without Chromium; tests/workflows/report/test_layout.py measures the layout."""
    assert "@media (prefers-color-scheme: dark)" in PAGE
    schemes = [set(re.findall(r"--(\w+):", part)) for part in re.findall(r"\{ color-scheme: \w+;([^}]*)\}", PAGE)]
    assert len(schemes) == 4, "light, dark by the system, dark by the switch, print"
    assert all(names == schemes[0] for names in schemes), "each scheme sets every color"
    used = set(re.findall(r"var\(--(\w+)\)", PAGE))
    assert used <= schemes[0]
    tags = [tag for tag, _ in read().tags]
    assert tags.count("dialog") == 1
    enlarged = [attributes for tag, attributes in read().tags if "enlarge" in str(attributes.get("class"))]
    assert len(enlarged) == 3, "figure, image and map"


CHECK = """
<script>
addEventListener("load", () => {
  const rows = () => [...document.querySelectorAll(".wide tbody tr:not(.group)")];
  const cells = k => rows().map(row => row.cells[k].dataset.value);
  const told = [document.title.startsWith("<script>") ? "title kept" : "title taken"];
  const buttons = document.querySelectorAll("thead button");
  buttons[1].click(); told.push(cells(1).join());
  buttons[1].click(); told.push(cells(1).join());
  buttons[2].click(); told.push(cells(2).join());
  buttons[0].click(); told.push(cells(0)[2]);
  document.body.textContent = "told: " + told.join(" | ");
});
</script></body>
"""


def test_a_browser_sorts_within_blocks_and_reports_no_error(tmp_path: Path, browse: Callable[[Path], str]):
    file = tmp_path / "page.html"
    file.write_text(PAGE.replace("</body>", CHECK), encoding="utf-8")
    assert "told: title kept | 0.9,0.7,0.5,0.1 | 0.5,0.7,0.9,0.1 | 0.5,0.25,, | c" in browse(file)


def test_an_error_on_the_page_is_detected(tmp_path: Path, browse: Callable[[Path], str]):
    file = tmp_path / "page.html"
    file.write_text(PAGE.replace("</body>", "<img src='https://example.org/x.png'></body>"), encoding="utf-8")
    with pytest.raises(AssertionError, match="Content Security Policy"):
        browse(file)
