"""Inputs for `mlrec.predict`: arrays, tensors, bytes, files, Pillow images and URLs."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.frames import Sample
from mlrec.datasets.images.decode import MAX_FILE_BYTES, Decoder, Pixels, picture_pixels
from mlrec.datasets.listing import Item, items_of
from mlrec.utils import web
from mlrec.utils.errors import DataError, UsageError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


logger = logging.getLogger(__name__)
One: TypeAlias = Union[str, Path, Item, Sample, bytes, IO[bytes], NDArray[np.uint8], "Image.Image", "Tensor"]
Images: TypeAlias = One | Iterable[One]


def items_from(
    images: Images,
    *,
    how: Decoder = "fast",
    allow_urls: bool = False,
    policy: web.WebPolicy | None = None,
) -> Iterator[Item]:
    """Convert images of any supported kind to items, one at a time.

    Arrays and Pillow images are copied, so that the caller can reuse the buffer.

    Args:
        images: See `predict`.
        how: Image backend.
        allow_urls: Whether to fetch strings that are URLs.
        policy: Limits for URLs.

    Raises:
        UsageError: A path does not exist, or a URL is passed without `allow_urls`.
        DataError: An array or tensor has an unsupported shape, dtype or range, an object is not an image, or a file is
            open in text mode.
    """
    converter = _Converter(how, allow_urls, policy or web.WebPolicy())
    if isinstance(images, (str, os.PathLike)):
        images = [images]
    if isinstance(images, (list, tuple)) and all(isinstance(image, (str, os.PathLike)) for image in images):
        texts = [os.fspath(image) for image in images]
        if not any(map(web.is_url, texts)):
            return items_of(texts, logger.warning)  # all at once, so that all missing paths are reported
        return itertools.chain.from_iterable([converter.named(text) for text in texts])
    return converter.items(images)


def url_item(url: str, policy: web.WebPolicy) -> Item:
    """Return an item for a URL, which is fetched when the item is decoded.

    The id omits the query of the URL, which may contain secrets.
    """
    name = web.shown(url)
    return Item(name, Path(name), None, functools.partial(web.fetch, url, policy))


class _Converter:
    """Converter from images to items; images without a name are numbered."""

    def __init__(self, how: Decoder, allow_urls: bool, policy: web.WebPolicy) -> None:
        self._how, self._allow_urls, self._policy = how, allow_urls, policy
        self._numbers = itertools.count()

    def items(self, images: Any) -> Iterator[Item]:
        """Yield the images in one object as items."""
        if isinstance(images, Item):
            yield images
        elif isinstance(images, Sample):
            yield Item(images.id, images.path, images.box)
        elif isinstance(images, (str, os.PathLike)):
            yield from self.named(os.fspath(images))
        elif isinstance(images, (bytes, bytearray, memoryview)):
            yield self._item(bytes(images))
        elif isinstance(images, np.ndarray):
            yield from map(self._item, _array_pixels(images))
        elif _is_a(images, "torch", "Tensor"):
            yield from map(self._item, _tensor_pixels(images))
        elif _is_a(images, "PIL.Image", "Image"):
            yield self._picture(images)
        elif callable(getattr(images, "read", None)):
            yield self._file(images)
        elif isinstance(images, Iterable) and not isinstance(images, dict):
            for image in images:
                yield from self.items(image)
        else:
            raise DataError(
                f"an object of type {type(images).__name__} is not an image; pass paths, bytes, open files, Pillow "
                "images, numpy arrays (H, W, 3) or tensors (3, H, W)"
            )

    def named(self, text: str) -> Iterator[Item]:
        """Return the images of a path or URL as items."""
        if not web.is_url(text):
            return items_of([text], logger.warning)
        if not self._allow_urls:
            raise UsageError(
                f"{web.shown(text)}: URLs are not allowed by default; allow them with allow_urls=True or --allow-urls"
            )
        return iter([url_item(text, self._policy)])

    def _item(self, content: bytes | Pixels, name: str | None = None) -> Item:
        name = name or f"image-{next(self._numbers)}"
        return Item(name, Path(name), None, content)

    def _picture(self, image: Any) -> Item:
        name = f"image-{next(self._numbers)}"
        try:
            return self._item(picture_pixels(image, name, self._how), name)
        except DataError as error:
            return _broken(name, error)

    def _file(self, stream: Any) -> Item:
        name = getattr(stream, "name", None)
        if not isinstance(name, str):
            name = f"image-{next(self._numbers)}"
        try:
            content = stream.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            return _broken(name, DataError(f"{name}: could not read the file ({type(error).__name__})"))
        if not isinstance(content, bytes):
            raise DataError(f"{name}: the file is open in text mode; open it with open(path, 'rb')")
        if len(content) > MAX_FILE_BYTES:
            return _broken(name, DataError(f"{name}: larger than {MAX_FILE_BYTES:,} bytes"))
        return self._item(content, name)


def _is_a(value: object, module: str, name: str) -> bool:
    """Return whether `value` is an instance of a class from another module, without importing that module."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def _broken(name: str, error: DataError) -> Item:
    """Return an item that fails when it is decoded, like an unreadable file."""

    def fail() -> bytes:
        raise error

    return Item(name, Path(name), None, fail)


def _array_pixels(array: NDArray[Any]) -> Iterator[Pixels]:
    """Return the pixels of each image in an array of shape (H, W, 3), or (B, H, W, 3) for a batch."""
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3 or not array.size:
        raise DataError(
            f"an array of shape {array.shape} and dtype {array.dtype} is not an image; pass RGB arrays "
            "of dtype uint8 and shape (H, W, 3) or (B, H, W, 3)"
        )
    if array.ndim == 3:
        array = array[None]
    return (pixels.copy() for pixels in array)


def _tensor_pixels(tensor: Tensor) -> Iterator[Pixels]:
    """Return the pixels of each image in a tensor of shape (3, H, W), or (B, 3, H, W) for a batch.

    The tensor values are uint8 integers, or floats from 0 to 1.
    """
    import torch

    if tensor.ndim not in (3, 4) or tensor.shape[-3] != 3 or not tensor.numel():
        raise DataError(
            f"a tensor of shape {tuple(tensor.shape)} is not an image; pass RGB tensors of shape (3, H, W) or (B, 3, "
            "H, W)"
        )
    values = tensor.detach().cpu()
    if values.is_floating_point():
        values = values.to(torch.float32)
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise DataError(
                "a float tensor has values outside [0, 1]; pass pixel values from 0 to 1, or a uint8 tensor"
            )
        values = (values * 255).round().to(torch.uint8)
    elif values.dtype != torch.uint8:
        raise DataError(f"a tensor of dtype {values.dtype} is not an image; use uint8, or floats from 0 to 1")
    if values.ndim == 3:
        values = values[None]
    return (pixels.permute(1, 2, 0).contiguous().numpy().copy() for pixels in values)
