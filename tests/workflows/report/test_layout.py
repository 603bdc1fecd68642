"""The layout of the report page as Chromium computes it: nothing is cut off, overlaps or is hard to read.

Runs on pages of 20 and 80 labels with long names, at the widths of a laptop and of a phone, light and dark.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlrec.reports.render.html import PageGallery, Picture, SampleCard, Section, page
from mlrec.workflows.report import page as workflow
from mlrec.workflows.report.report import report
from tests.reports.builders import write_run

LAPTOP, PHONE = 1280, 420
LONG = "JPEGImages/a-very-long-name-without-any-space-of-a-photograph-2021-11-27-000123456789.jpg"
# Sends what it measures to the page around the frame, which has the width of the screen.
MEASURE = """
<script>
addEventListener("load", () => {
  const found = {cut: [], overlap: [], faint: [], narrow: []};
  const root = document.documentElement, text = node => node.textContent.trim().slice(0, 40);
  const shown = node => node.getClientRects().length > 0;
  const all = query => [...document.querySelectorAll(query)].filter(shown);
  const box = node => node.getBoundingClientRect();
  found.width = innerWidth;
  found.overflow = root.scrollWidth - innerWidth;
  found.title = document.title;
  // Text outside of its cell, card or heading.
  const texts = "th, td, h1, h2, h3, figcaption, .summary div, .card div, .notes li, summary, header button";
  for (const node of all(texts)) {
    if (!text(node)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const inner = range.getBoundingClientRect(), outer = box(node);
    if (node.scrollWidth > node.clientWidth + 1 || inner.right > outer.right + 1 || inner.left < outer.left - 1)
      found.cut.push(text(node));
  }
  // Elements next to each other that cover the same place.
  const blocks = all("h1, header button, h2, h3, p, .summary div, .wide, .notes, figure, .card, details");
  blocks.forEach((one, k) => blocks.slice(k + 1).forEach(two => {
    if (one.contains(two) || two.contains(one)) return;
    const a = box(one), b = box(two);
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    if (across > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1)
      found.overlap.push([text(one), text(two)]);
  }));
  // Contrast of text to its background, as WCAG defines it.
  const linear = value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const light = color => {
    const part = color.match(/[\\d.]+/g).slice(0, 3).map(value => linear(value / 255));
    return .2126 * part[0] + .7152 * part[1] + .0722 * part[2];
  };
  const behind = node => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if (!/, 0\\)$/.test(color)) return color;
    }
    return "rgb(255, 255, 255)";
  };
  for (const node of all("h1, h2, p, td, th, li, figcaption, .summary span, .summary b, .card div, summary, #theme")) {
    const pair = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => a - b);
    if ((pair[1] + .05) / (pair[0] + .05) < 4.5) found.faint.push(text(node));
  }
  found.background = getComputedStyle(document.body).backgroundColor;
  // Tables: what is wider than its place scrolls, while the first column stays.
  found.tables = all(".wide").map(wide => {
    const row = wide.querySelector("tbody tr:not(.group)"), first = row.cells[0], at = box(first);
    const heads = [...row.closest("table").tHead.rows].at(-1).cells;
    const table = {hidden: wide.scrollWidth - wide.clientWidth, heads: heads.length, second: heads[1].textContent};
    wide.scrollIntoView();
    wide.scrollLeft = 1e6;
    const moved = box(first), place = box(row.cells[0]);
    table.kept = Math.abs(moved.left - at.left) < 2;
    table.front = document.elementFromPoint(moved.left + 3, moved.top + moved.height / 2) === first;
    table.last = box(row.cells[row.cells.length - 1]).right <= box(wide).right + 1;
    wide.scrollLeft = 0;
    return table;
  });
  for (const image of all("figure img")) if (box(image).width < 120) found.narrow.push(image.alt.slice(0, 40));
  // An image is enlarged by a click, and closed by another.
  const dialog = document.querySelector("dialog");
  const small = document.querySelector(".card .enlarge img") ?? document.querySelector(".enlarge img");
  small.closest("button").click();
  const larger = box(dialog.querySelector("img")).width > box(small).width;
  found.enlarged = dialog.open && larger && dialog.textContent.trim() === small.alt;
  dialog.click();
  found.closed = !dialog.open;
  const before = getComputedStyle(document.body).backgroundColor;
  document.getElementById("theme").click();
  found.switched = getComputedStyle(document.body).backgroundColor;
  document.getElementById("theme").click();
  found.switched_back = getComputedStyle(document.body).backgroundColor === before;
  parent.postMessage(JSON.stringify(found), "*");
});
</script></body>
"""
FRAME = """<!DOCTYPE html><iframe src="page.html" width="{width}" height="900" style="border:0"></iframe><pre></pre>
<script>addEventListener("message", event => document.querySelector("pre").textContent = event.data)</script>"""


def measure(browse: Callable[..., str], folder: Path, text: str, width: int, *, dark: bool) -> dict[str, Any]:
    (folder / "page.html").write_text(text.replace("</body>", MEASURE), encoding="utf-8")
    (folder / "frame.html").write_text(FRAME.format(width=width), encoding="utf-8")
    scheme = "--blink-settings=preferredColorScheme=0" if dark else "--blink-settings=preferredColorScheme=1"
    document = browse(folder / "frame.html", scheme)
    content = re.search(r"<pre>(.*?)</pre>", document, re.DOTALL)
    assert content is not None, document
    found: dict[str, Any] = json.loads(content.group(1).replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    return found


def report_of(root: Path, labels: int) -> str:
    """The page of eight runs: two methods over two seeds, and a sweep of λ, with 20 or 80 labels."""
    rng = np.random.default_rng(0)
    targets = (rng.random((150, labels)) < 0.15).astype(np.int8)
    names = (*(f"label {k}" for k in range(labels - 1)), "a-quite-long-label-in-one-word")
    settings = [{"lam": lam, "seed": seed} for lam in (0.1, 0.2, 0.4) for seed in (0, 1)]
    settings += [{"head": "average", "seed": seed} for seed in (0, 1)]
    for k, config in enumerate(settings):
        logits = rng.normal(size=targets.shape) + 3 * targets - 1.5
        log = "".join(
            f'{{"event":"epoch","epoch":{epoch},"loss":{1 / epoch + 0.1 * k},"step":1}}\n'
            f'{{"event":"scored","epoch":{epoch},"split":"test","mAP":0.{epoch + k},"step":1}}\n'
            for epoch in (1, 2, 3)
        )
        write_run(
            root / "runs", f"voc2007-resnet101-csra-{k}", config=config, logits=logits, targets=targets, labels=names,
            dataset="voc2007", log=log,
        )  # fmt: skip
    return workflow.report_page(report(root=root / "runs"))


def gallery_page() -> str:
    """A page with cards: with and without an image, with up to three maps, and long names."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 256, 3), dtype=np.uint8)).save(stream, "JPEG")
    photo = Picture(stream.getvalue(), "image/jpeg", "diningtable · label: yes, model: < 1%")
    cards = [SampleCard(LONG, ("colors: ±0.25",), photo, (photo,) * maps) for maps in (3, 2, 1, 0, 1)]
    cards.append(SampleCard(LONG, ("a line of text",)))
    gallery = PageGallery("Hardest images of " + LONG, "Why. " * 30, (Section(LONG, tuple(cards)),), photo)
    return page("voc2007 test, 2026-11-27", [], galleries=[gallery])


@pytest.fixture(scope="module", params=[20, pytest.param(80, marks=pytest.mark.long)])
def report_text(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return report_of(tmp_path_factory.mktemp("layout"), request.param)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [LAPTOP, PHONE])
def test_the_report_is_readable(
    browse: Callable[..., str], tmp_path: Path, report_text: str, width: int, dark: bool
) -> None:
    found = measure(browse, tmp_path, report_text, width, dark=dark)
    check(found, width, dark=dark)
    assert found["title"] == "voc2007 test, 2026-01-01"
    runs = found["tables"][0]
    assert runs["second"] == "mAP"
    for table in found["tables"]:
        assert table["kept"], "the first column stays while the others scroll"
        assert table["front"], "and is in front of them"
        assert table["last"], "and the last column can be reached"
    if width == LAPTOP:
        assert [table["hidden"] for table in found["tables"]] == [0] * len(found["tables"])
        assert runs["heads"] >= 19


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [LAPTOP, PHONE])
def test_cards_of_images_are_readable(browse: Callable[..., str], tmp_path: Path, width: int, dark: bool) -> None:
    check(measure(browse, tmp_path, gallery_page(), width, dark=dark), width, dark=dark)


def check(found: dict[str, Any], width: int, *, dark: bool) -> None:
    assert found["width"] == width
    assert found["overflow"] <= 0, "the page is not wider than the screen"
    for fault in ("cut", "overlap", "faint", "narrow"):
        assert found[fault] == [], fault
    backgrounds = ["rgb(255, 255, 255)", "rgb(20, 24, 29)"]
    assert found["background"] == backgrounds[dark], "as the system is set"
    assert found["switched"] == backgrounds[not dark]
    assert found["switched_back"]
    assert found["enlarged"]
    assert found["closed"]


def test_faults_of_a_layout_are_detected(browse: Callable[..., str], tmp_path: Path) -> None:
    """The measurements find a table that is wider than the page, text that is cut, and elements that overlap."""
    broken = gallery_page().replace(
        "</style>",
        ".card figcaption { white-space: nowrap; overflow: hidden } .card { margin-right: -9rem } p.dim { color: #ccc }"
        ".cards { width: 1400px } </style>",
    )
    found = measure(browse, tmp_path, broken, LAPTOP, dark=False)
    assert found["overflow"] > 0
    assert LONG[:40] in found["cut"]
    assert found["overlap"]
    assert found["faint"]
