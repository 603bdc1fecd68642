"""Decoding of images with simplejpeg, or with Pillow for files that simplejpeg cannot decode.

Regular files in the formats JPEG, PNG, BMP, GIF, TIFF and WEBP with at most 89,478,485 pixels are accepted. Only the
first frame of an animation is used. A truncated JPEG, PNG or GIF raises an error, even if only one byte is missing. A
BMP, TIFF or WEBP file raises an error if pixels are missing. Grayscale and CMYK images are converted to RGB, 16-bit
values are divided by 257, and transparent pixels are blended with white. Images with float or 32-bit integer pixels
raise an error. The EXIF orientation is applied to the image and to the box. Boxes are in pixels of the stored image.
Invalid EXIF or ICC data is ignored.
"""

from __future__ import annotations

import io
import re
import stat
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlrec.utils.errors import DataError
from mlrec.utils.names import alike

if TYPE_CHECKING:
    from PIL import Image


Decoder = Literal["fast", "pil"]
Pixels = NDArray[np.uint8]

MAX_PIXELS = 89_478_485
MAX_FILE_BYTES = 1 << 30
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo"),
    *(".png", ".apng", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
)
ORIENTATION_TAG = 0x0112
# Warnings from libjpeg that do not affect pixels; all other warnings indicate damage.
_HARMLESS = ("extraneous bytes before marker", "Invalid SOS parameters")
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


class Stored(NamedTuple):
    """Image as stored in the file, before the EXIF orientation is applied.

    Attributes:
        pixels: (H, W, 3) uint8 array of RGB pixels.
        orientation: EXIF orientation, from 1 (upright) to 8.
        animated: Whether the file has additional frames or pages, which are ignored.
    """

    pixels: Pixels
    orientation: int
    animated: bool


def decode(path: Path | str, how: Decoder = "fast") -> Pixels:
    """Decode an image file to an upright (H, W, 3) uint8 array of RGB pixels.

    Args:
        path: Image file.
        how: Name of the decoder. "fast" decodes as described in the module docstring. "pil" returns the pixels of
            `Image.open(path).convert("RGB")` without rotation, as in the code of the paper.

    Raises:
        DataError: The file is not an accepted image; the message states the file, the problem and how to fix it.

    Example:
        >>> from PIL import Image
        >>> Image.new("L", (4, 3), 255).save("grey.png")
        >>> decode("grey.png").shape
        (3, 4, 3)
    """
    stored = load(path, how)
    return upright(stored.pixels, stored.orientation)


def decode_box(path: Path | str, box: NDArray[np.float64] | tuple[float, ...] | None, how: Decoder = "fast") -> Pixels:
    """Decode the part of an image inside `box` to upright pixels.

    `box` contains x, y, width and height in pixels of the stored image. If `box` is None, the whole image is decoded.

    Raises:
        DataError: See `decode`.
    """
    if box is None:
        return decode(path, how)
    stored = load(path, how)
    return upright(crop(stored.pixels, box), stored.orientation)


def load(path: Path | str, how: Decoder = "fast") -> Stored:
    """Decode an image file, and return the stored pixels and the EXIF orientation (1 with `how="pil"`).

    Raises:
        DataError: See `decode`.
    """
    return decode_bytes(read_image_file(path), path, how)


def crop(pixels: Pixels, box: NDArray[np.float64] | tuple[float, ...]) -> Pixels:
    """Crop `box` (x, y, width, height) from stored pixels. Pixels outside the image are black, as in PIL."""
    x, y, width, height = (float(value) for value in box)
    left, top, right, bottom = round(x), round(y), round(x + width), round(y + height)
    rows, columns = pixels.shape[:2]
    inside = pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if left >= 0 and top >= 0 and right <= columns and bottom <= rows:
        return inside
    canvas = np.zeros((max(bottom - top, 0), max(right - left, 0), 3), dtype=np.uint8)
    down, across = max(-top, 0), max(-left, 0)
    canvas[down : down + inside.shape[0], across : across + inside.shape[1]] = inside
    return canvas


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation (1 to 8) to stored pixels and return a contiguous array."""
    return np.ascontiguousarray(_rotated(pixels, orientation))


def upright_mask(mask: NDArray[np.bool_], orientation: int) -> NDArray[np.bool_]:
    """Apply an EXIF orientation (1 to 8) to an (H, W) mask of a stored image."""
    return np.asarray(_rotated(mask, orientation))


def upright_box(box: tuple[float, ...], size: tuple[int, int], orientation: int) -> tuple[int, int, int, int]:
    """Convert a box of the stored image to left, top, right and bottom in pixels of the upright image.

    Args:
        box: Box as x, y, width, height in pixels of the stored image.
        size: Width and height of the stored image.
        orientation: EXIF orientation, 1 to 8.

    Example:
        >>> upright_box((0, 0, 10, 20), (100, 50), 6)
        (30, 0, 50, 10)
    """
    x, y, w, h = box
    left, top, right, bottom = round(x), round(y), round(x + w), round(y + h)
    width, height = size
    if orientation >= 5:
        left, top, right, bottom = top, left, bottom, right
        width, height = height, width
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    return left, top, right, bottom


def _rotated(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def read_size(path: Path | str) -> tuple[int, int]:
    """Read the width and height of the stored image from the file header.

    Raises:
        DataError: The file does not have the header of an accepted image; see `decode`.
    """
    with _metadata_ignored():
        return _open(read_image_file(path), path).size


def read_orientation(path: Path | str) -> int:
    """Read the EXIF orientation, 1 to 8, from the file header.

    Raises:
        DataError: The file does not have the header of an accepted image; see `decode`.
    """
    with _metadata_ignored():
        return _orientation(_open(read_image_file(path), path))


def read_image_file(path: Path | str) -> bytes:
    """Read the bytes of an image file, which must be a regular file of at most 1 GiB.

    Raises:
        DataError: The file is missing, not a regular file, too large, or unreadable.
    """
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise _refused(path, "the path is not a regular file; specify an image file")
        if status.st_size > MAX_FILE_BYTES:
            raise _refused(
                path,
                f"the file has {status.st_size:,} bytes, more than the limit of {MAX_FILE_BYTES:,}; reduce its size",
            )
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        near = alike(Path(path))
        if near:
            remedy = f", but there is {near}; use that name"
        else:
            remedy = "; check the path and make sure that the archive is unpacked"
        raise _refused(path, f"no such image file{remedy}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise _refused(path, f"the file cannot be read ({reason}); check the path") from error


def decode_bytes(data: bytes, path: Path | str, how: Decoder = "fast") -> Stored:
    """Decode the bytes of an image file; `path` is used only in messages.

    Raises:
        DataError: See `decode`.
    """
    with _metadata_ignored():
        image = _open(data, path)
        with _damage_reported(path, "file"):
            return _stored(image, data, how)


def picture_pixels(image: Image.Image, name: str, how: Decoder = "fast") -> Pixels:
    """Convert a Pillow image to RGB pixels as in `decode`; `name` is used in messages.

    Raises:
        DataError: The pixel format is not supported, or the image data is damaged.
    """
    with _metadata_ignored(), _damage_reported(name, "image"):
        if how == "pil":
            return np.array(image.convert("RGB"))
        return upright(_to_rgb(image), _orientation(image)).copy()


@contextmanager
def _damage_reported(name: Path | str, what: str) -> Iterator[None]:
    """Convert any Pillow error to a DataError about `name`.

    The error asks to replace `what` ("file" or "image").
    """
    try:
        yield
    except DataError as error:
        raise _refused(name, str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises almost any exception for damaged files
        raise _refused(name, f"{_damage(error)}; replace the {what}") from error


class _Silence:
    """State that is shared by all threads inside `_metadata_ignored`.

    The state is the number of threads inside, and the context that restores the warnings after the last exit.
    """

    lock = threading.Lock()
    inside = 0
    caught = warnings.catch_warnings()


@contextmanager
def _metadata_ignored() -> Iterator[None]:
    """Ignore Pillow's warnings about broken metadata, because metadata does not change pixels.

    `warnings.catch_warnings` alone is not thread-safe: one thread would restore the warnings that another thread
    disabled.
    """
    with _Silence.lock:
        if not _Silence.inside:
            _Silence.caught = warnings.catch_warnings()
            _Silence.caught.__enter__()
            warnings.simplefilter("ignore")
        _Silence.inside += 1
    try:
        yield
    finally:
        with _Silence.lock:
            _Silence.inside -= 1
            if not _Silence.inside:
                _Silence.caught.__exit__(None, None, None)


def _open(data: bytes, path: Path | str) -> Image.Image:
    """Read the image header and check the format and size limits."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _refused(
            path, f"the image has more pixels than the limit of {MAX_PIXELS:,}; make the image smaller"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises almost any exception for damaged headers
        raise _refused(path, _no_image(data, error)) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _refused(
            path,
            f"the image has {width} x {height} pixels, more than the limit of {MAX_PIXELS:,}; make the image smaller",
        )
    return image


def _stored(image: Image.Image, data: bytes, how: Decoder) -> Stored:
    jpeg = image.format in ("JPEG", "MPO")  # MPO: a JPEG with a preview or a second view behind it
    check_whole(data, "JPEG" if jpeg else image.format)
    if how == "pil":
        pixels = np.asarray(image.convert("RGB"))
    elif jpeg and image.mode in ("RGB", "L"):
        pixels = _jpeg(image, data)
    else:
        if jpeg:
            _strictly(data, "CMYK")  # detects damage only; pixels are from Pillow, whose CMYK conversion differs
        pixels = _to_rgb(image)
    animated = not jpeg and bool(getattr(image, "is_animated", False))
    orientation = 1  # the paper's code, which "pil" reproduces, does not rotate images
    if how == "fast":
        orientation = _orientation(image)
    return Stored(pixels, orientation, animated)


def _jpeg(image: Image.Image, data: bytes) -> Pixels:
    pixels = _strictly(data, "RGB")
    return np.asarray(image.convert("RGB")) if pixels is None else pixels


def _strictly(data: bytes, colors: str) -> Pixels | None:
    """Decode a JPEG file; raise ValueError if the file is damaged.

    After a warning that does not indicate damage, None is returned.
    """
    import simplejpeg

    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colors, strict=True)
    except ValueError as error:
        if any(text in str(error) for text in _HARMLESS):
            return None
        raise
    return pixels


def _to_rgb(image: Image.Image) -> Pixels:
    from PIL import Image

    image.load()
    if image.mode in _SIXTEEN_BIT:
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        kind = "float" if image.mode == "F" else "32-bit integer"
        raise DataError(f"the value range of {kind} pixels is unknown; convert the image to 8 or 16 bits per channel")
    if image.mode in _ALPHA_MODES or image.has_transparency_data:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - invalid EXIF data means no orientation
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _no_image(data: bytes, error: Exception) -> str:
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not data:
        return "the file is empty (0 bytes); replace it"
    if head.startswith(b"version https://git-lfs"):
        return f"the file is a Git LFS pointer ({len(data)} bytes), not the image; run 'git lfs pull'"
    if head.startswith((b"<!doctype html", b"<html")):
        return "the file is an HTML page (probably a login or error page), not an image; download it again"
    if "text" in str(error).lower() and "large" in str(error).lower():
        return "the file contains compressed text that unpacks to more than Pillow allows; replace the file"
    return f"not an image in a supported format ({', '.join(FORMATS)}); replace the file"


def _damage(error: Exception) -> str:
    text = str(error)
    if "truncated" in text.lower() or "premature end" in text.lower():
        return "truncated (the file ends before the image does)"
    return f"damaged ({text})"


def _refused(path: Path | str, what: str) -> DataError:
    return DataError(f"{path}: {what}")


MOST_SCANS = 100  # limit per JPEG; each scan covers all pixels, and files usually have at most a dozen scans
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END, _SCAN = 0xD9, 0xDA


def check_whole(data: bytes, format_: str | None) -> None:
    """Raise OSError if a JPEG, PNG or GIF file is truncated, or has a wrong checksum or too many scans."""
    if format_ == "JPEG":
        _check_jpeg(data)
    elif format_ == "PNG":
        _check_png(data)
    elif format_ == "GIF":
        _check_gif(data)


def _check_jpeg(data: bytes) -> None:
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise OSError("image file is truncated")
    if data.count(b"\xff\xda") > MOST_SCANS and sum(kind == _SCAN for kind in _markers(data)) > MOST_SCANS:
        raise OSError(f"more than {MOST_SCANS} scans")


def _markers(data: bytes) -> Iterator[int]:
    """Iterate over the markers of the first image in a JPEG file.

    Markers inside segments (previews) are skipped.
    """
    marker = _MARKER.search(data, 2)
    while marker is not None:
        kind = data[marker.start() + 1]
        if kind == _END:
            return
        yield kind
        length = int.from_bytes(data[marker.end() : marker.end() + 2])
        marker = _MARKER.search(data, marker.end() + length)


def _check_png(data: bytes) -> None:
    at = 8
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        end = at + 8 + size
        if kind == b"IEND":
            return
        if kind == b"IDAT" and zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
            raise OSError("the checksum of the pixel data is wrong")
        at = end + 4
    raise OSError("image file is truncated")


def _check_gif(data: bytes) -> None:
    """Iterate over the blocks of a GIF up to the trailer ";".

    The blocks are images "," and extensions "!", each followed by sub-blocks.
    """
    at = 13 + _palette(data[10])
    while data[at : at + 1] not in (b"", b";"):
        if data[at] == ord(","):
            at += 11 + _palette(data[at + 9])
        elif data[at] == ord("!"):
            at += 2
        else:
            at += 1
            continue
        while data[at : at + 1] not in (b"", b"\0"):
            at += data[at] + 1
        at += 1
    if data[at : at + 1] != b";":
        raise OSError("image file is truncated")


def _palette(flags: int) -> int:
    """Return the size of the color table in bytes, from the flags of a GIF block."""
    has_palette = flags & 0x80
    return 3 << (flags & 7) + 1 if has_palette else 0
