"""Heat maps drawn over images, with a color bar, as single figures or as sheets of many images."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.boxes import inside
from mlrec.datasets.images.decode import SUFFIXES, Decoder, upright, upright_box
from mlrec.datasets.listing import Item, load_item
from mlrec.reports.figures.color_map import ENTRIES, ZERO, color_map
from mlrec.reports.figures.text import cut, font
from mlrec.utils.errors import printable

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
Corners = tuple[int, int, int, int]  # left, top, right, bottom in pixels

OPACITY = 0.85  # of the strongest color: the photograph stays visible below it
PEAKS_BELOW = 0.9  # quantile of the peaks of many images that has the strongest color
GAP, LINE, SMALL, LARGE = 10, 18, 13, 15  # pixels: space, height of a line, sizes of text
BAR = 12  # pixels: width of a color bar
SHEET_WIDTH = 1600  # pixels: narrow strips share a row of a sheet up to this width
QUALITY = 90  # of JPEG


@dataclass(frozen=True)
class ColorScale:
    """Color scale for values: blue below 0, transparent at 0, red above 0.

    Attributes:
        limit: Absolute value at which the color is strongest; larger values have the same color.
        low: Lowest value on the color bar, `-limit` or 0.
        exceeded: Whether any absolute value is larger than `limit`.
    """

    limit: float
    low: float
    exceeded: bool = False

    @classmethod
    def over(cls, maps: Sequence[NDArray[np.floating]], quantile: float = 1.0) -> ColorScale:
        """Return a color scale that fits the given heat maps.

        The scale starts at 0 if the maps have no negative values; otherwise, the scale is symmetric about 0.

        Args:
            maps: Heat maps as arrays (..., h, w).
            quantile: Quantile from 0 to 1. The color is strongest at this quantile of the maximum absolute values of
                the individual maps, or at their largest value if the quantile is 0.
        """
        peaks = np.concatenate([np.abs(values).max(axis=(-2, -1)).ravel() for values in maps])
        # Of maps with a single strong one, the quantile may be 0.
        limit = float(np.quantile(peaks, quantile)) or float(peaks.max()) or 1.0
        low = 0.0
        if min(float(values.min()) for values in maps) < 0:
            low = -limit
        return cls(limit, low, bool(peaks.max() > limit))

    def entries(self, values: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Return the color map indices of values; the array of values may have any shape."""
        share = np.clip(values / self.limit, -1, 1)
        entries: NDArray[np.uint8] = np.rint(ZERO * (1 + share)).astype(np.uint8)
        return entries


@dataclass(frozen=True, eq=False)
class Panel:
    """Image with one or more lines of text above it."""

    pixels: Pixels
    text: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Strip:
    """Row of panels, with a heading above and a color bar on the right."""

    heading: str
    panels: tuple[Panel, ...]
    scale: ColorScale | None = None


def resized(pixels: Pixels, side: int) -> Pixels:
    """Resize an image (H, W, 3) so that its longer side is `side` pixels; small images are enlarged."""
    from PIL import Image

    height, width = pixels.shape[:2]
    factor = side / max(height, width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))


def overlaid(pixels: Pixels, values: NDArray[np.floating], scale: ColorScale, box: Corners | None = None) -> Pixels:
    """Draw a heat map over an image; larger absolute values are more opaque.

    At locations where the map is 0, the image is unchanged. A white line surrounds the regions in which the absolute
    value is at least half the limit of the scale. The line makes these regions visible even if the object has the same
    color as the map.

    Args:
        pixels: Image (H, W, 3).
        values: Heat map (h, w). The map is stretched to the whole image or box, because evaluation also resizes the
            image or box to a square.
        scale: Color scale.
        box: Region that the map covers, in pixels; it may extend beyond the image. By default, the map covers the whole
            image.
    """
    from PIL import Image

    left, top, right, bottom = box or (0, 0, pixels.shape[1], pixels.shape[0])
    size = max(right - left, 1), max(bottom - top, 1)
    # Bilinear: bicubic would add negative rings around peaks that the map does not have.
    smooth = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    entries = scale.entries(smooth)
    # Pillow looks colors up and blends them several times faster than NumPy.
    colors = Image.fromarray(entries)
    opacity = colors.point(_opacities())
    colors.putpalette(color_map().tobytes())
    painted = colors.convert("RGB")
    line = Image.fromarray(_outline((entries <= ZERO // 2) | (entries >= ZERO + ZERO // 2 + 1)))
    painted.paste((255, 255, 255), mask=line)
    opacity.paste(255, mask=line)
    image = Image.fromarray(pixels)
    image.paste(painted, (left, top), opacity)
    return np.asarray(image)


@functools.cache
def _opacities() -> list[int]:
    """Return the opacity (0 to 255) of each color map entry, proportional to its distance from 0."""
    magnitude = np.abs(np.arange(ENTRIES) - ZERO) / ZERO
    return [*np.rint(255 * OPACITY * magnitude).astype(int).tolist(), 0]  # Pillow expects 256 entries


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return an array that is 255 at the boundaries of the regions of a mask (H, W), and 0 elsewhere."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return np.where(mask & ~inner, np.uint8(255), np.uint8(0))


def outlined(pixels: Pixels, box: Corners) -> Pixels:
    """Return a copy of the image with the outline of a box drawn on it."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = box
    pen.rectangle((left - 1, top - 1, right, bottom), outline="black", width=3)
    pen.rectangle((left, top, right - 1, bottom - 1), outline="white")
    return np.asarray(picture)


def draw_strip(strip: Strip) -> Pixels:
    """Draw the heading, the panels and the color bar of a strip as one image."""
    from PIL import Image, ImageDraw

    lines = max((len(panel.text) for panel in strip.panels), default=0)
    tallest = max((panel.pixels.shape[0] for panel in strip.panels), default=0)
    width = GAP + sum(panel.pixels.shape[1] + GAP for panel in strip.panels)
    if strip.scale:
        width += _bar_width(strip.scale)
    top = GAP + (lines + 1) * LINE
    picture = Image.new("RGB", (width, top + tallest + GAP), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((GAP, GAP // 2), cut(strip.heading, width - 2 * GAP, LARGE), "black", font=font(LARGE))
    left = GAP
    for panel in strip.panels:
        for number, text in enumerate(panel.text, start=1):
            line = cut(text, panel.pixels.shape[1], SMALL)
            pen.text((left, GAP // 2 + number * LINE), line, "black", font=font(SMALL))
        picture.paste(Image.fromarray(panel.pixels), (left, top))
        left += panel.pixels.shape[1] + GAP
    if strip.scale:
        _draw_bar(picture, strip.scale, (left, top), tallest)
    return np.asarray(picture)


def draw_sheet(strips: Sequence[Pixels], note: str) -> Pixels:
    """Arrange strips in rows on one image, with a line of text at the top."""
    from PIL import Image, ImageDraw

    widest = max(strip.shape[1] for strip in strips)
    columns = max(1, min(SHEET_WIDTH // widest, len(strips)))
    rows = [strips[k : k + columns] for k in range(0, len(strips), columns)]
    heights = [max(strip.shape[0] for strip in row) for row in rows]
    sheet = Image.new("RGB", (columns * widest, GAP + LINE + sum(heights)), "white")
    note = cut(note, sheet.width - 2 * GAP, SMALL)
    ImageDraw.Draw(sheet).text((GAP, GAP // 2), note, "black", font=font(SMALL))
    top = GAP + LINE
    for row, height in zip(rows, heights, strict=True):
        for column, strip in enumerate(row):
            sheet.paste(Image.fromarray(strip), (column * widest, top))
        top += height
    return np.asarray(sheet)


def jpeg(pixels: Pixels, quality: int = QUALITY) -> bytes:
    """Encode an image (H, W, 3) as JPEG without chroma subsampling."""
    from PIL import Image

    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=quality, subsampling=0)
    return content.getvalue()


def bar(scale: ColorScale, height: int) -> Pixels:
    """Return the color bar of a scale as an image (height, BAR, 3); the top corresponds to `limit`."""
    values = np.linspace(scale.limit, scale.low, height)
    colors, opacity = color_map()[scale.entries(values)], np.array(_opacities())[scale.entries(values), None] / 255
    column = np.rint(255 + opacity * (colors - 255.0)).astype(np.uint8)
    return np.repeat(column[:, None], BAR, axis=1)


def ticks(scale: ColorScale) -> list[tuple[float, str]]:
    """Return the ticks of a color bar as pairs of position (0 at the top, 1 at the bottom) and text."""
    limit = f"{scale.limit:.2g}"
    ends = ("≥ ", "≤ −") if scale.exceeded else ("", "−")
    if scale.low == 0:
        return [(0.0, f"{ends[0]}{limit}"), (1.0, "0")]
    return [(0.0, f"{ends[0]}{limit}"), (0.5, "0"), (1.0, f"{ends[1]}{limit}")]


def _bar_width(scale: ColorScale) -> int:
    return BAR + 4 + max(int(font(SMALL).getlength(text)) for _, text in ticks(scale)) + 1 + GAP


def _draw_bar(picture: Image.Image, scale: ColorScale, corner: tuple[int, int], height: int) -> None:
    from PIL import Image, ImageDraw

    left, top = corner
    picture.paste(Image.fromarray(bar(scale, height)), corner)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((left, top, left + BAR - 1, top + height - 1), outline="#999999")
    anchors = {0.0: "la", 0.5: "lm", 1.0: "ld"}  # the text of an end is inside the height of the bar
    for place, text in ticks(scale):
        at = (left + BAR + 4, top + place * height)
        pen.text(at, text, "black", font=font(SMALL), anchor=anchors[place])


def name_of(item: Item) -> str:
    """Return the id of an item, or only the file name if the id is a path on this machine."""
    if item.id == str(item.path):
        return item.path.name
    return item.id


class FileNames:
    """Generator of unique JPEG file names from item ids; a number is appended to duplicate names."""

    def __init__(self, taken: set[str] | None = None) -> None:
        self._taken = set(taken or ())

    def of(self, item: Item) -> str:
        """Return an unused file name for an item."""
        shown = name_of(item)
        if shown.lower().endswith(SUFFIXES):
            shown = shown.rpartition(".")[0]
        stem = re.sub(r"[^\w.#-]+", "_", printable(shown)).strip("_.") or "image"
        name, number = f"{stem}.jpg", 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}.jpg"
        self._taken.add(name.casefold())
        return name


def picture_of(item: Item, side: int, how: Decoder = "fast") -> tuple[Pixels, Corners | None]:
    """Read the image of an item, apply the EXIF orientation, and resize the image.

    Args:
        item: Image, or box in an image.
        side: Length of the longer side in pixels.
        how: Image backend used for decoding.

    Returns:
        Whole image as an array (H, W, 3), and the corners of the item's box in this image. The corners are None if the
        item has no box.

    Raises:
        DataError: The image cannot be read.
    """
    stored = load_item(item, how)
    whole = upright(stored.pixels, stored.orientation)
    small = resized(whole, side)
    if item.box is None:
        return small, None
    height, width = stored.pixels.shape[:2]
    down, across = small.shape[0] / whole.shape[0], small.shape[1] / whole.shape[1]
    left, top, right, bottom = upright_box(inside(item.box, width, height), (width, height), stored.orientation)
    return small, (round(left * across), round(top * down), round(right * across), round(bottom * down))
