"""Contact sheets: many thumbnails with captions in one PNG file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from mlrec.datasets.images import decode
from mlrec.reports.figures.text import cut, font
from mlrec.utils.errors import DataError, printable
from mlrec.utils.files import check_ending, write_bytes

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

SIDE, TEXT, GAP = 200, 30, 8  # pixels
COLUMNS = 6
SUFFIXES = (".png",)
TALLEST = 30_000  # pixels: largest height of a sheet
SMALL, LARGE = 11, 15  # pixels: sizes of text


@dataclass(frozen=True)
class Tile:
    """Thumbnail on a contact sheet, with a caption.

    Attributes:
        image: Image file.
        caption: Text below the thumbnail, at most two lines.
        box: Region to show, as (x, y, width, height) in pixels; by default, the whole image.
    """

    image: Path
    caption: str
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class SheetRow:
    """Row of thumbnails with an optional heading."""

    heading: str
    tiles: tuple[Tile, ...]


def write_sheet(rows: Sequence[SheetRow], path: Path) -> int:
    """Write a contact sheet of thumbnails as a PNG file.

    Args:
        rows: Rows of thumbnails, broken into lines of six thumbnails. The sheet ends before the first line that would
            make it taller than 30,000 pixels.
        path: PNG file to write.

    Returns:
        Number of thumbnails on the sheet, including placeholders for images that cannot be read.

    Raises:
        UsageError: The file name does not end in `.png`.
    """
    from PIL import Image, ImageDraw

    check_ending(path, SUFFIXES, "--contact-sheet")
    shown: list[tuple[str, tuple[Tile, ...]]] = []
    height = GAP
    for heading, tiles in _sheet_lines(rows):
        line_height = SIDE + TEXT + GAP
        if heading:
            line_height += TEXT
        if height + line_height > TALLEST:
            break
        height += line_height
        shown.append((heading, tiles))
    sheet = Image.new("RGB", (COLUMNS * (SIDE + GAP) + GAP, max(height, GAP + TEXT)), "white")
    pen = ImageDraw.Draw(sheet)
    top = GAP
    for heading, tiles in shown:
        if heading:
            pen.text((GAP, top + 6), cut(heading, sheet.width - 2 * GAP, LARGE), "black", font=font(LARGE))
            top += TEXT
        for column, tile in enumerate(tiles):
            _draw(sheet, pen, tile, (GAP + column * (SIDE + GAP), top))
        top += SIDE + TEXT + GAP
    content = BytesIO()
    sheet.save(content, format="PNG")
    write_bytes(path, content.getvalue())
    return sum(len(tiles) for _, tiles in shown)


def _sheet_lines(rows: Sequence[SheetRow]) -> Iterator[tuple[str, tuple[Tile, ...]]]:
    """Split rows into lines of at most `COLUMNS` thumbnails; the first line of each row has the heading."""
    for row in rows:
        heading = row.heading
        for start in range(0, len(row.tiles), COLUMNS):
            yield heading, row.tiles[start : start + COLUMNS]
            heading = ""


def _draw(sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, place: tuple[int, int]) -> None:
    from PIL import Image

    left, top = place
    try:
        pixels = decode.decode_box(tile.image, tile.box)
        picture = Image.fromarray(pixels)
        picture.thumbnail((SIDE, SIDE))
        sheet.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
    except DataError:
        pen.rectangle((left, top, left + SIDE, top + SIDE), outline="grey")
        pen.text((left + GAP, top + GAP), "cannot be read", "grey", font=font(SMALL))
    for number, text in enumerate(_two_lines(tile.caption)):
        pen.text((left, top + SIDE + 2 + 13 * number), text, "black", font=font(SMALL))


def _two_lines(caption: str) -> tuple[str, str]:
    """Break a caption into two lines; the middle of a long caption is omitted."""
    text = printable(caption)
    first = len(text)
    while font(SMALL).getlength(text[:first]) > SIDE:
        first -= 1
    return text[:first], cut(text[first:], SIDE, SMALL)
