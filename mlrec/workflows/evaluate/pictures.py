"""Pictures of items: what is shown of an image, and under what file name."""

from __future__ import annotations

import re

from mlrec.datasets.boxes import inside
from mlrec.datasets.images.decode import Decoder, load, upright, upright_box
from mlrec.datasets.listing import Item
from mlrec.reports.figures.overlays import Corners, Pixels, shrunk
from mlrec.utils.errors import printable


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
