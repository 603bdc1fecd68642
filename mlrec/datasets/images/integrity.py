"""Damage in image files that decoders accept: a missing end, changed bytes, too many scans."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

MOST_SCANS = 100  # of a JPEG; each scan covers all pixels, and files usually have at most a dozen
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END, _SCAN = 0xD9, 0xDA


def check_whole(data: bytes, format_: str | None) -> None:
    """Raise OSError for a JPEG, PNG or GIF with a missing end, a wrong checksum, or too many scans."""
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
    """The markers of the first image in a JPEG file, without those inside of segments, such as a preview."""
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
            raise OSError("a checksum of its pixels is wrong")
        at = end + 4
    raise OSError("image file is truncated")


def _check_gif(data: bytes) -> None:
    """Walk over the blocks up to the trailer ";": images ",", extensions "!", each followed by sub-blocks."""
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
    """Number of bytes of the colour table that a GIF block announces in its flags."""
    has_palette = flags & 0x80
    return 3 << (flags & 7) + 1 if has_palette else 0
