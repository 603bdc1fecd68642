"""Large arrays in an `.npz` file.

Numeric arrays are written block by block without compression, and memory-mapped for reading. Strings are compressed.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mlrec.utils.texts import BLOCK, Texts, TextsBuilder, batched

LARGE = 2**26  # bytes; smaller arrays are compressed and read into memory
PIECE = 2**22
LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of a member's name and extra field


def save_large(stream: IO[bytes], arrays: Mapping[str, NDArray[Any] | Sequence[str]]) -> None:
    """Write an `.npz` file with memory-mappable numeric arrays and compressed strings.

    Identical arrays produce identical bytes.
    """
    with zipfile.ZipFile(stream, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            if not isinstance(array, np.ndarray):
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry._compresslevel = 1  # type: ignore[attr-defined]
            with archive.open(entry, "w", force_zip64=True) as member:
                for piece in _pieces(array):
                    member.write(piece)


def _pieces(array: NDArray[Any] | Sequence[str]) -> Iterator[bytes]:
    """Yield the header of an array, and then the bytes of its rows."""
    if isinstance(array, np.ndarray):
        yield _npy_header(array.dtype, array.shape)
        if array.ndim == 0:
            yield array.tobytes()
            return
        rows = max(PIECE // max(array[:1].nbytes, 1), 1)
        for begin in range(0, len(array), rows):
            yield np.ascontiguousarray(array[begin : begin + rows]).tobytes()
        return
    dtype = np.dtype(f"<U{max(map(len, array), default=1)}")
    yield _npy_header(dtype, (len(array),))
    for block in batched(array, BLOCK):
        yield np.array(block, dtype=dtype).tobytes()


def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    header = BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def mapped(path: Path, entry: zipfile.ZipInfo) -> NDArray[Any] | None:
    """Memory-map a large uncompressed member of an `.npz` file; returns None for any other member.

    Raises:
        BadZipFile: The checksum of the member does not match.
    """
    if entry.file_size < LARGE or entry.compress_type != zipfile.ZIP_STORED:
        return None
    with path.open("rb") as stream:
        stream.seek(entry.header_offset)
        begin = entry.header_offset + LOCAL_HEADER.size + sum(LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size)))
        stream.seek(begin)
        _check(stream, entry)
        stream.seek(begin)
        shape, by_column, dtype = _read_npy_header(stream)
        offset = stream.tell()
    if dtype.hasobject or 0 in shape:
        return None
    # Copy on write: changes to the array are not written to the file.
    return np.memmap(path, dtype, "c", offset, shape, "F" if by_column else "C")


def large_texts(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Texts | None:
    """Read a large `.npz` member of strings into a compact form; returns None for any other member.

    Raises:
        ValueError: A string contains an invalid character.
    """
    if entry.file_size < LARGE:
        return None
    builder = TextsBuilder()
    with archive.open(entry) as stream:
        shape, by_column, dtype = _read_npy_header(stream)
        if dtype.kind != "U" or len(shape) != 1 or by_column or not dtype.itemsize:
            return None
        for begin in range(0, shape[0], BLOCK):
            count = min(BLOCK, shape[0] - begin)
            content = stream.read(count * dtype.itemsize)
            block = np.frombuffer(content, dtype, count)
            if not is_text(block):
                raise ValueError("strings contain invalid characters")
            builder.extend(block.tolist())
    return builder.texts()


def is_text(array: NDArray[Any]) -> bool:
    """Return whether all characters are valid: at most U+10FFFF and not a surrogate."""
    if not array.dtype.itemsize:
        return True
    codes = np.ascontiguousarray(array).view(f"{array.dtype.byteorder}u4")
    return not bool(((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any())


def _read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    read = np.lib.format.read_array_header_2_0
    if np.lib.format.read_magic(stream) == (1, 0):
        read = np.lib.format.read_array_header_1_0
    header: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(stream)
    return header


def _check(stream: IO[bytes], entry: zipfile.ZipInfo) -> None:
    """Verify the checksum of a member, reading in chunks to limit memory."""
    left, checksum = entry.file_size, 0
    while left:
        piece = stream.read(min(PIECE, left))
        if not piece:
            break
        checksum = zlib.crc32(piece, checksum)
        left -= len(piece)
    if checksum != entry.CRC:
        raise zipfile.BadZipFile(f"bad checksum of {entry.filename}")
