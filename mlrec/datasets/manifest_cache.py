"""Binary copy of a large manifest next to its JSONL file.

The copy can be loaded quickly, and multiple processes can share its memory.

The JSONL file is authoritative. The copy stores the SHA-256 of the JSONL file, and is ignored if the JSONL file has
changed. The copy can be deleted at any time. Line 1 is a JSON header with the offset of each array; arrays are read
through a memory map.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.utils.errors import MlrecError
from mlrec.utils.files import atomic_write

FORMAT = "mlrec-cache/1"
CACHED_FROM = 2**20  # bytes; a smaller manifest is read in a few milliseconds
ALIGNED = 64  # arrays start at multiples of this offset, as in NumPy
CHUNK = 2**22

Arrays = dict[str, NDArray[Any]]


class _Array(msgspec.Struct):
    dtype: str
    shape: list[int]
    begin: int
    checksum: int


class _Header(msgspec.Struct):
    format: str
    key: str
    fields: dict[str, Any]
    arrays: dict[str, _Array]


def cache_path(manifest: Path) -> Path:
    """Return the path of the binary copy of a manifest file."""
    return manifest.with_name(f".{manifest.name}.cache")


def write(manifest: Path, key: str, fields: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the binary copy of a manifest file, unless the folder is read-only."""
    described, begin = {}, 0
    for name, array in arrays.items():
        begin = -(-begin // ALIGNED) * ALIGNED
        described[name] = _Array(array.dtype.str, list(array.shape), begin, zlib.crc32(_bytes(array)))
        begin += array.nbytes
    header = msgspec.json.encode(_Header(FORMAT, key, dict(fields), described)) + b"\n"
    with contextlib.suppress(MlrecError), atomic_write(cache_path(manifest)) as stream:
        stream.write(header + bytes(-len(header) % ALIGNED))
        start = stream.tell()
        for name, array in arrays.items():
            stream.write(bytes(start + described[name].begin - stream.tell()))
            stream.write(_bytes(array))


def read(manifest: Path, key: str, *, checked: bool = True) -> tuple[dict[str, Any], Arrays] | None:
    """Read the binary copy of a manifest file.

    Args:
        manifest: Manifest file.
        key: SHA-256 of the manifest file.
        checked: Whether to verify the checksums of the arrays.

    Returns:
        The fields and arrays that were written, or None if the copy is missing, damaged or out of date.
    """
    path = cache_path(manifest)
    try:
        with path.open("rb") as stream:
            line = stream.readline()
            header = msgspec.json.decode(line, type=_Header)
            if header.format != FORMAT or header.key != key:
                return None
            start = -(-len(line) // ALIGNED) * ALIGNED
            arrays = {}
            for name, place in header.arrays.items():
                if checked and _checksum(stream, start + place.begin, place) != place.checksum:
                    return None
                arrays[name] = _mapped(path, start + place.begin, place)
    except (OSError, ValueError, TypeError, msgspec.MsgspecError):  # the copy is missing, truncated or damaged
        return None
    return header.fields, arrays


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _mapped(path: Path, begin: int, place: _Array) -> NDArray[Any]:
    shape = tuple(place.shape)
    if 0 in shape:  # nothing to map
        return np.zeros(shape, dtype=place.dtype)
    # Copy on write: changes to the array do not change the file.
    return np.memmap(path, dtype=place.dtype, mode="c", offset=begin, shape=shape)


def _checksum(stream: Any, begin: int, place: _Array) -> int:
    """Return the CRC-32 of an array in the file, read in chunks to limit memory."""
    left = int(np.prod(place.shape, dtype=np.int64)) * np.dtype(place.dtype).itemsize
    stream.seek(begin)
    checksum = 0
    while left:
        piece = stream.read(min(CHUNK, left))
        if not piece:
            return -1
        checksum = zlib.crc32(piece, checksum)
        left -= len(piece)
    return checksum
