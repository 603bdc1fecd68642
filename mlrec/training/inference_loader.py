"""Image stream for inference: images are decoded in threads, and unreadable images are reported."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mlrec.datasets.boxes import inside
from mlrec.datasets.images.decode import crop, upright
from mlrec.datasets.listing import Item, load_item
from mlrec.models.preprocessing import Preprocessing
from mlrec.training.transforms import VIEWS, Decode, filled
from mlrec.utils.errors import DataError
from mlrec.utils.processes import own_cores
from mlrec.utils.threads import AHEAD, thread_map


@dataclass(frozen=True, eq=False)
class Loaded:
    """Batch of items in input order, with the images of the readable items.

    Attributes:
        items: Pairs (item, error); the error is None if the image is readable.
        images: Tensor (B, 3, S, S) with the uint8 images of the readable items, in order, padded with copies of the
            last image to the size of the first batch in the stream. B is 0 if no item can be read.
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
    """Yield batches of `items` in order, keeping only a few batches in memory.

    As in `eval_batches`, all batches have the same size as the first batch, because the last bits of the scores depend
    on the batch size. Only a batch without readable items is empty.

    Args:
        items: Items to load, consumed on demand.
        preprocessing: Size and interpolation of the model input.
        batch_size: Number of items per batch.
        threads: Number of decoding threads. None means one per core; 0 also means one thread.
        decode: Image decoder.
    """
    if threads is None:
        threads = own_cores()
    size = preprocessing.size

    def load_view(item: Item) -> tuple[Item, Tensor | DataError]:
        return item, view_of(item, preprocessing, decode)

    with thread_map(load_view, items, threads=max(threads, 1), ahead=threads * AHEAD + batch_size) as views:
        full = 0  # size of the first batch
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
    """Return the uint8 model input (3, S, S) for an item, or the error if there is no usable image.

    An image is not usable if it cannot be read, or if its box contains no pixels of the image.

    The image, cropped to its box if there is one, is resized to a square. Boxes are clipped to the image, as in
    `prepare`.
    """
    try:
        stored = load_item(item, decode)
        height, width = stored.pixels.shape[:2]
        pixels = stored.pixels
        if item.box is not None:
            pixels = crop(stored.pixels, inside(item.box, width, height))
        if not pixels.size:
            raise DataError(
                f"{item.path}: the box of '{item.id}' contains no pixels of the image "
                f"({width} x {height}); write x, y, width and height in pixels, counted from 0"
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
