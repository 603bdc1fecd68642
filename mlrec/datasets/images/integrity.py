"""What decoders pass over in files of images: an end that is missing, bytes that were changed, scans without end."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

MOST_SCANS = 100  # of a JPEG; each goes over all pixels, a dozen are usual
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END, _SCAN = 0xD9, 0xDA


def check_whole(data: bytes, format_: str | None) -> None:
    """Raise OSError for a JPEG, PNG or GIF whose end is missing, whose check sums differ, or that has endless scans."""
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
    """The markers of the first image in a JPEG file; what segments hold, a preview say, is left out."""
    at = 2
    while found := _MARKER.search(data, at):
        kind = data[found.start() + 1]
        if kind == _END:
            return
        yield kind
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])


def _check_png(data: bytes) -> None:
    at = 8
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        end = at + 8 + size
        if kind == b"IEND":
            return
        if kind == b"IDAT" and zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
            raise OSError("a check sum of its pixels differs")
        at = end + 4
    raise OSError("image file is truncated")


def _check_gif(data: bytes) -> None:
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
    """Bytes of the palette that a block of a GIF has."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
