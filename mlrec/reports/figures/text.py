"""Fonts and text shortening for images drawn with Pillow."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from mlrec.utils.errors import printable

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont


@functools.cache
def font(size: int) -> FreeTypeFont:
    """Return the font DejaVu Sans at a given size.

    The font is included in matplotlib and supports Latin, Greek and Cyrillic letters.

    Args:
        size: Size in pixels.
    """
    from PIL import ImageFont

    package = importlib.util.find_spec("matplotlib")  # found, not imported: that takes a third of a second
    if package is None or package.origin is None:
        raise ModuleNotFoundError("matplotlib is not installed")
    return ImageFont.truetype(str(Path(package.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"), size)


def cut(text: str, width: float, size: int) -> str:
    """Shorten text so that it fits on one line of a given width.

    The end of the text is kept, because file names often differ only at the end.

    Args:
        text: Text; control characters are escaped.
        width: Width in pixels.
        size: Font size in pixels.

    Example:
        >>> cut("train2014/COCO_train2014_000000000009.jpg", 100, 13)
        '…0000009.jpg'
    """
    text = printable(text)
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength("…" + text) > width:
        text = text[1:]
    return "…" + text
