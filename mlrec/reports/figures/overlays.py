"""Heat maps over images: strips of an image and its maps, with one colour scale for all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.boxes import inside
from mlrec.datasets.images.decode import Decoder, upright, upright_box
from mlrec.datasets.listing import Item, load_item
from mlrec.reports.figures.contact_sheet import drawable
from mlrec.utils.errors import printable

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
Corners = tuple[int, int, int, int]  # left, top, right, bottom in pixels

COLOURS = "viridis"  # perceptually uniform, and distinguishable for colour-blind readers
OPACITY = (0.3, 0.8)  # at zero, and at the largest value: the image stays visible if a location contributes nothing
PEAKS_BELOW = 0.9  # quantile of the peaks that the last colour stands for
GAP, LINE = 10, 18  # pixels: between panels, height of a line of text
SCALE, RAMP = 44, 300  # pixels: height of the scale, length of its colour bar
MOST_PIXELS = 30_000  # largest height of a sheet


@dataclass(frozen=True)
class Range:
    """Colour scale: the values of the first and the last colour.

    Attributes:
        low: Value of the first colour.
        high: Value of the last colour.
        meaning: What the values are, in words.
    """

    low: float
    high: float
    meaning: str

    @classmethod
    def over(cls, maps: Sequence[NDArray[np.floating]], meaning: str) -> Range:
        """Return a scale for some maps.

        It starts at their lowest value, or at 0, and ends at the 90 % quantile of their peaks; higher values saturate.

        Args:
            maps: Arrays (..., h, w).
            meaning: What the values are, in words.
        """
        peaks = np.concatenate([values.max(axis=(-2, -1)).ravel() for values in maps])
        low = min([0.0, *(float(values.min()) for values in maps)])
        high = float(np.quantile(peaks, PEAKS_BELOW))
        if high <= 0:
            high = 1.0
        return cls(low, high, meaning)


@dataclass(frozen=True, eq=False)
class Panel:
    """An image and the lines of text above it."""

    pixels: Pixels
    text: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Strip:
    """Panels side by side with a heading above."""

    heading: str
    panels: tuple[Panel, ...]


def shrunk(pixels: Pixels, side: int) -> Pixels:
    """Return the image (H, W, 3), reduced if its longer side exceeds `side` pixels."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    return np.asarray(picture)


def overlaid(pixels: Pixels, values: NDArray[np.floating], colours: Range, box: Corners | None = None) -> Pixels:
    """Return the image in grey with the colours of a map on top.

    Args:
        pixels: Image (H, W, 3).
        values: Map (h, w); its cells divide the image or the box evenly, as evaluation resizes either to a square.
        colours: Colour scale.
        box: Part of the image that the map is of, in pixels; the rest stays grey. By default the whole image.
    """
    from matplotlib import colormaps
    from PIL import Image

    height, width = pixels.shape[:2]
    left, top, right, bottom = box or (0, 0, width, height)
    smooth = Image.fromarray(values.astype(np.float32)).resize(
        (max(right - left, 1), max(bottom - top, 1)), Image.Resampling.BILINEAR
    )
    enlarged = np.asarray(smooth)
    share = (enlarged - colours.low) / (colours.high - colours.low)
    painted = 255 * colormaps[COLOURS](np.clip(share, 0, 1))[..., :3]
    faint, strong = OPACITY
    opacity = faint + (strong - faint) * np.sqrt(np.clip(np.abs(enlarged) / colours.high, 0, 1))[..., None]
    grey = np.repeat(np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float64)[..., None], 3, axis=2)
    # A box may exceed the image: only the part of the map inside the image is painted.
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    grey[rows, columns] += opacity[part] * (painted[part] - grey[rows, columns])
    return grey.round().astype(np.uint8)


def outlined(pixels: Pixels, box: Corners) -> Pixels:
    """Return the image with the outline of a box."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = box
    pen.rectangle((left - 1, top - 1, right, bottom), outline="black", width=3)
    pen.rectangle((left, top, right - 1, bottom - 1), outline="white")
    return np.asarray(picture)


def draw_strips(strips: Sequence[Strip], colours: Range | None = None) -> tuple[bytes, int]:
    """Draw strips one below the other into a PNG.

    Args:
        strips: Strips; those that do not fit on the sheet are left out.
        colours: Colour scale to draw at the bottom; by default none.

    Returns:
        Content of the PNG, and the number of strips on it.
    """
    from PIL import Image, ImageDraw, ImageFont

    fitting = _fitting(strips)
    widths = [_width(strip) for strip in fitting]
    height = sum(_height(strip) for strip in fitting) + GAP
    if colours:
        widths.append(_scale_width(colours))
        height += SCALE
    sheet = Image.new("RGB", (max(widths, default=0) + GAP, height), "white")
    pen, small, large = ImageDraw.Draw(sheet), ImageFont.load_default(size=12), ImageFont.load_default(size=14)
    top = GAP
    for strip in fitting:
        pen.text((GAP, top), drawable(strip.heading), "black", font=large)
        left = GAP
        for panel in strip.panels:
            for number, text in enumerate(panel.text):
                pen.text((left, top + (number + 1) * LINE), drawable(text), "black", font=small)
            sheet.paste(Image.fromarray(panel.pixels), (left, top + (_lines(strip) + 1) * LINE + 2))
            left += panel.pixels.shape[1] + GAP
        top += _height(strip)
    if colours:
        _draw_scale(sheet, colours, top)
    content = BytesIO()
    sheet.save(content, format="PNG", optimize=True)
    return content.getvalue(), len(fitting)


def _fitting(strips: Sequence[Strip]) -> list[Strip]:
    fitting: list[Strip] = []
    height = SCALE + GAP
    for strip in strips:
        height += _height(strip)
        if height > MOST_PIXELS and fitting:
            break
        fitting.append(strip)
    return fitting


def _lines(strip: Strip) -> int:
    return max((len(panel.text) for panel in strip.panels), default=0)


def _height(strip: Strip) -> int:
    tallest: int = max((panel.pixels.shape[0] for panel in strip.panels), default=0)
    return (_lines(strip) + 1) * LINE + 2 + tallest + GAP


def _width(strip: Strip) -> int:
    from PIL import ImageFont

    heading = ImageFont.load_default(size=14).getlength(drawable(strip.heading))
    panels: int = sum(panel.pixels.shape[1] + GAP for panel in strip.panels)
    return max(int(heading) + GAP, panels)


def _scale_width(colours: Range) -> int:
    from PIL import ImageFont

    return GAP + RAMP + GAP + int(ImageFont.load_default(size=12).getlength(drawable(colours.meaning))) + 1


def _draw_scale(sheet: Image.Image, colours: Range, top: int) -> None:
    from matplotlib import colormaps
    from PIL import Image, ImageDraw, ImageFont

    thick = 12
    ramp = (255 * colormaps[COLOURS](np.linspace(0, 1, RAMP))[:, :3]).astype(np.uint8)
    sheet.paste(Image.fromarray(np.repeat(ramp[None], thick, axis=0)), (GAP, top))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    # Value, its text, and the part of the text that is at its position: left end, right end or middle.
    ticks = [(colours.low, f"{colours.low:.2g}", "la"), (colours.high, f"{colours.high:.2g} or more", "ra")]
    if _has_zero_tick(colours):
        ticks.append((0.0, "0", "ma"))
    for value, text, anchor in ticks:
        position = GAP + (value - colours.low) / (colours.high - colours.low) * (RAMP - 1)
        pen.line((position, top + thick, position, top + thick + 4), fill="black")
        pen.text((position, top + thick + 4), text, "black", font=font, anchor=anchor)
    pen.text((GAP + RAMP + GAP, top - 2), drawable(colours.meaning), "black", font=font)


def _has_zero_tick(colours: Range) -> bool:
    """Return whether zero is far enough from both ends of the scale for a tick of its own."""
    return 0.12 < -colours.low / (colours.high - colours.low) < 0.88


class FileNames:
    """File names for items, made from their ids; a number is appended to a name that is taken."""

    def __init__(self, taken: set[str] | None = None) -> None:
        self._taken = set(taken or ())

    def of(self, item: Item) -> str:
        """Return a new file name for an item."""
        shown = item.id
        if shown == str(item.path):
            shown = item.path.name
        stem = re.sub(r"[^\w.#-]+", "_", printable(shown)).strip("_.") or "image"
        name, number = f"{stem}.png", 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}.png"
        self._taken.add(name.casefold())
        return name


def picture_of(item: Item, side: int, how: Decoder = "fast") -> tuple[Pixels, Corners | None]:
    """Read the image of an item, upright and reduced.

    Args:
        item: Image, or a box of an image.
        side: Largest length of the longer side in pixels.
        how: Image backend.

    Returns:
        Whole image (H, W, 3), and the corners of the item's box in it; None if the item is a whole image.

    Raises:
        DataError: The image cannot be read.
    """
    stored = load_item(item, how)
    whole = upright(stored.pixels, stored.orientation)
    small = shrunk(whole, side)
    if item.box is None:
        return small, None
    height, width = stored.pixels.shape[:2]
    down, across = small.shape[0] / whole.shape[0], small.shape[1] / whole.shape[1]
    left, top, right, bottom = upright_box(inside(item.box, width, height), (width, height), stored.orientation)
    return small, (round(left * across), round(top * down), round(right * across), round(bottom * down))
