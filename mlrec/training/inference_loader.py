"""Images for a model, one after the other, decoded ahead by threads; what cannot be read is told, never replaced."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mlrec.datasets.boxes import inside
from mlrec.datasets.images.decode import crop, load, upright
from mlrec.datasets.listing import Item
from mlrec.models.preprocessing import Preprocessing
from mlrec.training.transforms import VIEWS, Decode, filled
from mlrec.utils.errors import DataError, printable
from mlrec.utils.processes import own_cores
from mlrec.utils.threads import AHEAD, thread_map


@dataclass(frozen=True, eq=False)
class Loaded:
    """Some items in the order they were asked for, and the images of those that can be read.

    Attributes:
        items: each with None, or with what is wrong with it.
        images: (B, 3, S, S) uint8, of the items with None, in their order; then copies of the last one, as many as
            give all batches of a stream one size. B is 0 if no item can be read.
    """

    items: list[tuple[Item, DataError | None]]
    images: Tensor


def load_stream(
    items: Iterable[Item],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    threads: int | None = None,
    decode: Decode = "fast",
) -> Iterator[Loaded]:
    """Batches of `items` in order, never more than a few of them in memory.

    As in `eval_batches` all batches have one size, that of the first: a sample's scores depend on it in the last bits.

    Args:
        items: what to load; read as needed.
        preprocessing: the size and the interpolation.
        batch_size: items of a batch.
        threads: that decode; None = by the cores, 0 = none beside this one.
        decode: the decoder.
    """
    number = own_cores() if threads is None else threads
    size = preprocessing.size

    def load_view(item: Item) -> tuple[Item, Tensor | DataError]:
        return item, view_of(item, preprocessing, decode)

    with thread_map(load_view, items, threads=max(number, 1), ahead=number * AHEAD + batch_size) as views:
        full = 0
        for batch in _batched(views, batch_size):
            full = full or len(batch)
            images = [image for _, image in batch if isinstance(image, Tensor)]
            yield Loaded(
                items=[(item, image if isinstance(image, DataError) else None) for item, image in batch],
                images=filled(torch.stack(images), full)
                if images
                else torch.empty((0, 3, size, size), dtype=torch.uint8),
            )


def view_of(item: Item, preprocessing: Preprocessing, decode: Decode = "fast") -> Tensor | DataError:
    """The model's view of an item, (3, S, S) uint8: the whole image or box squashed; or what is wrong with it.

    A box that reaches out of its image is cut at its border, as `prepare` does.
    """
    try:
        stored = load(item.path, decode)
        height, width = stored.pixels.shape[:2]
        pixels = stored.pixels if item.box is None else crop(stored.pixels, inside(item.box, width, height))
        if not pixels.size:
            raise DataError(
                f"{printable(item.path)}: the box of '{printable(item.id)}' has no pixel of the image, which is "
                f"{width} x {height}; x, y, width, height are pixels, from 0"
            )
        pixels = upright(pixels, stored.orientation)
        return VIEWS[decode](pixels, None, preprocessing.size, preprocessing.interpolation)
    except DataError as error:
        return error


def _batched(
    views: Iterator[tuple[Item, Tensor | DataError]], size: int
) -> Iterator[list[tuple[Item, Tensor | DataError]]]:
    while batch := list(itertools.islice(views, size)):
        yield batch
