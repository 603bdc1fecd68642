"""Maps over pictures: strips of a picture and its maps, and a scale that holds for all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.boxes import inside
from mlrec.datasets.images.decode import Decoder, load, upright, upright_box
from mlrec.datasets.listing import Item
from mlrec.reports.figures.contact_sheet import drawable
from mlrec.utils.errors import printable

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
Corners = tuple[int, int, int, int]  # left, top, right, bottom in pixels

COLOURS = "viridis"  # perceptually uniform, and told apart by colour-blind readers
OPACITY = (0.3, 0.8)  # of nothing, and of the value farthest from it: where nothing speaks the picture is seen
PEAKS_BELOW = 0.9
GAP, LINE = 10, 18  # pixels: between panels, a line of text
SCALE, RAMP = 44, 300  # pixels: the scale's height, the length of its colours
MOST_PIXELS = 30_000  # of a sheet's height


@dataclass(frozen=True)
class Range:
    """The values that the first and the last colour stand for, and what they are."""

    low: float
    high: float
    meaning: str

    @classmethod
    def over(cls, maps: Sequence[NDArray[np.floating]], meaning: str) -> Range:
        """From the lowest value of any map, or 0, to what nine in ten of the peaks stay below: the rest saturate."""
        peaks = np.concatenate([values.max(axis=(-2, -1)).ravel() for values in maps])
        low = min([0.0, *(float(values.min()) for values in maps)])
        high = float(np.quantile(peaks, PEAKS_BELOW))
        return cls(low, high if high > 0 else 1.0, meaning)


@dataclass(frozen=True, eq=False)
class Panel:
    """A picture and the lines above it."""

    pixels: Pixels
    text: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Strip:
    """Panels side by side, below a heading."""

    heading: str
    panels: tuple[Panel, ...]


def shrunk(pixels: Pixels, side: int) -> Pixels:
    """The picture with its longer side of at most `side` pixels."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    return np.asarray(picture)


def overlaid(pixels: Pixels, values: NDArray[np.floating], colours: Range, box: Corners | None = None) -> Pixels:
    """The picture in grey under the colours of a map, that was made of the whole picture or of a box of it.

    Args:
        pixels: (H, W, 3).
        values: (h, w), whose cells divide the picture or the box evenly: the squash of evaluation undone.
        colours: what the colours stand for.
        box: in pixels of the picture; the rest of it stays grey.
    """
    from matplotlib import colormaps
    from PIL import Image

    height, width = pixels.shape[:2]
    left, top, right, bottom = box or (0, 0, width, height)
    smooth = Image.fromarray(values.astype(np.float32)).resize(
        (max(right - left, 1), max(bottom - top, 1)), Image.Resampling.BILINEAR
    )
    drawn = np.asarray(smooth)
    share = (drawn - colours.low) / (colours.high - colours.low)
    painted = 255 * colormaps[COLOURS](np.clip(share, 0, 1))[..., :3]
    faint, strong = OPACITY
    opacity = faint + (strong - faint) * np.sqrt(np.clip(np.abs(drawn) / colours.high, 0, 1))[..., None]
    grey = np.repeat(np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float64)[..., None], 3, axis=2)
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    grey[rows, columns] += opacity[part] * (painted[part] - grey[rows, columns])
    return grey.round().astype(np.uint8)


def outlined(pixels: Pixels, box: Corners) -> Pixels:
    """The picture with a box drawn into it."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = box
    pen.rectangle((left - 1, top - 1, right, bottom), outline="black", width=3)
    pen.rectangle((left, top, right - 1, bottom - 1), outline="white")
    return np.asarray(picture)


def draw_strips(strips: Sequence[Strip], colours: Range | None = None) -> tuple[bytes, int]:
    """A PNG of strips one below the other, the scale at its foot; and how many of them fitted on it."""
    from PIL import Image, ImageDraw, ImageFont

    fitting = _fitting(strips)
    wide = max([*map(_width, fitting), _scale_width(colours) if colours else 0]) + GAP
    height = sum(map(_height, fitting)) + GAP + (SCALE if colours else 0)
    sheet = Image.new("RGB", (wide, height), "white")
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
    marks = {colours.low: "la", colours.high: "ra"} | ({0.0: "ma"} if _clear(colours) else {})
    for value, anchor in marks.items():
        place = GAP + (value - colours.low) / (colours.high - colours.low) * (RAMP - 1)
        pen.line((place, top + thick, place, top + thick + 4), fill="black")
        text = f"{value:.2g}" + (" or more" if value == colours.high else "")
        pen.text((place, top + thick + 4), text, "black", font=font, anchor=anchor)
    pen.text((GAP + RAMP + GAP, top - 2), drawable(colours.meaning), "black", font=font)


def _clear(colours: Range) -> bool:
    """Whether zero lies far enough from both ends for a mark of its own."""
    return 0.12 < -colours.low / (colours.high - colours.low) < 0.88


class FileNames:
    """A file name for each item, from its id; numbered where one is taken."""

    def __init__(self, taken: set[str] | None = None) -> None:
        self._taken = set(taken or ())

    def of(self, item: Item) -> str:
        """The name for an item that has none yet."""
        shown = item.path.name if item.id == str(item.path) else item.id
        stem = re.sub(r"[^\w.#-]+", "_", printable(shown)).strip("_.") or "image"
        name, number = f"{stem}.png", 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}.png"
        self._taken.add(name.casefold())
        return name


def picture_of(item: Item, side: int, how: Decoder = "fast") -> tuple[Pixels, Corners | None]:
    """The whole image, its longer side of at most `side` pixels, as decoded; and where in it the item's box lies.

    Raises:
        DataError: the image cannot be read.
    """
    stored = load(item.path, how)
    whole = upright(stored.pixels, stored.orientation)
    small = shrunk(whole, side)
    if item.box is None:
        return small, None
    height, width = stored.pixels.shape[:2]
    down, across = small.shape[0] / whole.shape[0], small.shape[1] / whole.shape[1]
    left, top, right, bottom = upright_box(inside(item.box, width, height), (width, height), stored.orientation)
    return small, (round(left * across), round(top * down), round(right * across), round(bottom * down))
