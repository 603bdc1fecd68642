"""Many small pictures on one sheet, each with a line of text: what a list of file names cannot show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from mlrec.datasets.images import decode
from mlrec.utils.errors import DataError, printable
from mlrec.utils.files import check_ending, write_bytes

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

SIDE, TEXT, GAP = 200, 30, 8  # pixels
COLUMNS = 6
SUFFIXES = (".png",)
TALLEST = 30_000
LETTERS = 33  # of a caption line


@dataclass(frozen=True)
class Tile:
    """One picture: an image file, or a box (x, y, width, height) of it, and at most two short lines below."""

    image: Path
    caption: str
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class SheetRow:
    """Pictures that belong together, below a heading where there is one."""

    heading: str
    tiles: tuple[Tile, ...]


def write_sheet(lines: Sequence[SheetRow], path: Path) -> int:
    """Draw `lines` into the PNG file `path`; those that no sheet can hold are left out. How many pictures it shows."""
    from PIL import Image, ImageDraw, ImageFont

    check_ending(path, SUFFIXES, "--contact-sheet")
    rows = list(_rows(lines))
    shown: list[tuple[str, tuple[Tile, ...]]] = []
    height = GAP
    for heading, tiles in rows:
        need = (TEXT if heading else 0) + SIDE + TEXT + GAP
        if height + need > TALLEST:
            break
        height += need
        shown.append((heading, tiles))
    sheet = Image.new("RGB", (COLUMNS * (SIDE + GAP) + GAP, max(height, GAP + TEXT)), "white")
    pen, small, large = ImageDraw.Draw(sheet), ImageFont.load_default(size=11), ImageFont.load_default(size=15)
    top = GAP
    for heading, tiles in shown:
        if heading:
            pen.text((GAP, top + 6), drawable(heading), "black", font=large)
            top += TEXT
        for column, tile in enumerate(tiles):
            _draw(sheet, pen, tile, (GAP + column * (SIDE + GAP), top), small)
        top += SIDE + TEXT + GAP
    content = BytesIO()
    sheet.save(content, format="PNG")
    write_bytes(path, content.getvalue())
    return sum(len(tiles) for _, tiles in shown)


def _rows(lines: Sequence[SheetRow]) -> Iterator[tuple[str, tuple[Tile, ...]]]:
    for line in lines:
        for start in range(0, len(line.tiles), COLUMNS):
            yield line.heading if start == 0 else "", line.tiles[start : start + COLUMNS]


def _draw(sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, place: tuple[int, int], font: object) -> None:
    from PIL import Image

    left, top = place
    try:
        pixels = decode.decode(tile.image) if tile.box is None else decode.decode_box(tile.image, tile.box)
        picture = Image.fromarray(pixels)
        picture.thumbnail((SIDE, SIDE))
        sheet.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
    except DataError:
        pen.rectangle((left, top, left + SIDE, top + SIDE), outline="grey")
        pen.text((left + GAP, top + GAP), "cannot be read", "grey", font=font)  # type: ignore[arg-type]
    for number, text in enumerate(_folded(tile.caption)):
        pen.text((left, top + SIDE + 2 + 13 * number), text, "black", font=font)  # type: ignore[arg-type]


def _folded(caption: str) -> list[str]:
    """At most two lines; of a long text the end, where names of files differ."""
    text = drawable(caption)
    if len(text) > 2 * LETTERS:
        text = "..." + text[3 - 2 * LETTERS :]
    return [text[:LETTERS], text[LETTERS:]]


def drawable(text: str) -> str:
    """`text` in what Pillow's own font can draw."""
    return printable(text).encode("latin-1", "replace").decode("latin-1")
