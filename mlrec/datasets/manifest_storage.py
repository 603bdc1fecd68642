"""Storage of manifests: sparse targets in memory, JSONL files, and binary copies of large files.

`SparseTargets` stores only the positive and unknown labels of each sample. Lines are encoded and decoded in blocks of
samples.

The binary copy is next to the JSONL file. The copy can be loaded quickly, and multiple processes can share its memory.
The JSONL file is authoritative: the copy stores the SHA-256 of the JSONL file, and is ignored if the JSONL file has
changed. The copy can be deleted at any time. Line 1 of the copy is a JSON header with the offset of each array; the
arrays are read through a memory map.
"""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.utils import ragged
from mlrec.utils.errors import DataError, MlrecError, ValidationReport, counted, nearest
from mlrec.utils.files import atomic_write, open_bytes
from mlrec.utils.names import image_name
from mlrec.utils.texts import BLOCK, Texts, TextsBuilder, repeated

POSITIVE, NEGATIVE, UNKNOWN = 1, 0, -1
CELLS = 2**23  # cells of a dense block
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CACHE_FORMAT = "mlrec-cache/1"
CACHED_FROM = 2**20  # bytes; a smaller manifest is read in a few milliseconds
ALIGNED = 64  # arrays start at multiples of this offset, as in NumPy
CHUNK = 2**22  # bytes read at a time for a checksum

Arrays = dict[str, NDArray[Any]]
# Position of the first sample in a block; then the row in the block, the column and the value of each code.
Block = tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]


class SparseTargets:
    """(N, C) targets in sparse form; only positive and unknown labels are stored, as integer codes.

    Each stored label takes two bytes, or four bytes if there are more than 32,768 labels.

    Attributes:
        codes: (E,) array with the codes of the stored labels: k if the label in column k is positive, and `-1 - k` if
            it is unknown. The codes are sorted by sample, then by column.
        offsets: (N + 1,) int64 array with the start position of each sample in `codes`, followed by E.
        labels: Number of columns C.

    Example:
        >>> targets = SparseTargets.of(np.array([[1, -1, 0], [0, 0, 0]], dtype=np.int8))
        >>> targets.codes.tolist(), targets.offsets.tolist(), targets.dense().tolist()
        ([0, -2], [0, 2, 2], [[1, -1, 0], [0, 0, 0]])
    """

    def __init__(self, codes: NDArray[Any], offsets: NDArray[np.int64], labels: int) -> None:
        self.codes, self.offsets, self.labels = codes, offsets, labels

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (N, C)."""
        return len(self.offsets) - 1, self.labels

    @classmethod
    def of(cls, dense: NDArray[np.int8]) -> SparseTargets:
        """Convert dense (N, C) targets with the values 1, 0 and -1 to sparse targets."""
        samples, labels = dense.shape
        parts = []
        step = max(CELLS // max(labels, 1), 1)
        for begin in range(0, samples, step):
            block = dense[begin : begin + step]
            rows, columns = np.nonzero((block == POSITIVE) | (block == UNKNOWN))
            values = block[rows, columns]
            parts.append((coded(columns, values, labels), ragged.offsets_of(np.bincount(rows, minlength=len(block)))))
        return cls(*ragged.joined(parts, code_type(labels)), labels)

    def dense(self) -> NDArray[np.int8]:
        """Return a dense (N, C) array of 1 (positive), 0 (negative) or -1 (unknown)."""
        targets = np.zeros(self.shape, dtype=np.int8)
        for begin, rows, columns, values in self.blocks():
            targets[begin + rows, columns] = values
        return targets

    def blocks(self, size: int = ragged.BLOCK) -> Iterator[Block]:
        """Iterate over the stored labels in blocks of `size` samples; see `Block`."""
        for begin in range(0, len(self.offsets) - 1, size):
            ends = np.asarray(self.offsets[begin : begin + size + 1])
            codes = self.codes[ends[0] : ends[-1]].astype(np.int64)
            rows = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
            yield begin, rows, columns_of(codes), np.where(codes < 0, UNKNOWN, POSITIVE).astype(np.int8)

    def __getitem__(self, sample: int) -> NDArray[Any]:
        """Return the codes of a sample."""
        return self.codes[self.offsets[sample] : self.offsets[sample + 1]]

    def take(self, samples: NDArray[np.integer[Any]]) -> SparseTargets:
        """Return the targets of the given samples, in this order."""
        return SparseTargets(*ragged.taken(self.codes, self.offsets, samples), self.labels)

    def choose(self, columns: Sequence[int] | NDArray[np.integer[Any]]) -> SparseTargets:
        """Return the targets in the given columns, in this order."""
        place = np.full(self.labels, -1, dtype=np.int64)
        place[np.asarray(columns, dtype=np.intp)] = np.arange(len(columns))
        parts = []
        for begin, rows, own, values in self.blocks():
            size = min(ragged.BLOCK, self.shape[0] - begin)
            new = place[own]
            order = np.lexsort((new, rows))
            order = order[new[order] >= 0]
            codes = coded(new[order], values[order], len(columns))
            parts.append((codes, ragged.offsets_of(np.bincount(rows[order], minlength=size))))
        return SparseTargets(*ragged.joined(parts, code_type(len(columns))), len(columns))

    def rows(self, samples: NDArray[np.integer[Any]]) -> NDArray[np.int8]:
        """Return a dense (len(samples), C) array with the targets of the given samples."""
        return self.take(samples).dense()

    def counts(self, value: int) -> NDArray[np.int64]:
        """Return a (C,) array with the number of samples that have the target `value`, for each label."""
        if value == NEGATIVE:
            return self.shape[0] - self.counts(POSITIVE) - self.counts(UNKNOWN)
        total = np.zeros(self.labels, dtype=np.int64)
        for _, _, columns, values in self.blocks():
            total += np.bincount(columns[values == value], minlength=self.labels)
        return total

    def per_sample(self, value: int) -> NDArray[np.int64]:
        """Return an (N,) array: how many labels of each sample have the target `value`, which is 1 or -1."""
        totals = np.zeros(self.shape[0], dtype=np.int64)
        for begin, rows, _, values in self.blocks():
            size = min(ragged.BLOCK, len(totals) - begin)
            totals[begin : begin + size] = np.bincount(rows[values == value], minlength=size)
        return totals


def sparse(targets: NDArray[np.int8] | SparseTargets) -> SparseTargets:
    """Return targets in sparse form; dense targets are converted."""
    return targets if isinstance(targets, SparseTargets) else SparseTargets.of(targets)


def code_type(labels: int) -> Any:
    """Return the smallest integer dtype that can store the codes for this number of labels."""
    return np.int16 if labels <= 2**15 else np.int32


def coded(columns: NDArray[np.integer[Any]], values: NDArray[np.int8], labels: int) -> NDArray[Any]:
    """Convert columns and their target values to codes; see `SparseTargets`."""
    return np.where(values == POSITIVE, columns, -1 - columns).astype(code_type(labels))


def columns_of(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the target column for each code."""
    return np.where(codes < 0, -1 - codes, codes)


def joined(parts: Sequence[SparseTargets]) -> SparseTargets:
    """Concatenate sparse targets with the same labels."""
    labels = parts[0].labels if parts else 0
    return SparseTargets(*ragged.joined([(part.codes, part.offsets) for part in parts], code_type(labels)), labels)


class Header(msgspec.Struct, forbid_unknown_fields=True):
    """Line 1 of a manifest file."""

    format: str
    name: str
    split: str
    root: str
    labels: list[str]


class Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Line that stores one sample in a manifest file."""

    image: str
    positive: list[str]
    unknown: list[str] = []
    box: tuple[float, float, float, float] | None = None
    id: str | None = None


@dataclass(frozen=True)
class ManifestLines:
    """Content of a manifest file.

    `key` is the SHA-256 of the file, and `sample_ids` is empty if no line has an id.
    """

    header: Header
    images: Texts
    sample_ids: Texts | tuple[()]
    targets: SparseTargets
    boxes: NDArray[np.float64] | None
    key: str


def encoded_lines(
    labels: Sequence[str],
    images: Sequence[str],
    sample_ids: Sequence[str],
    targets: SparseTargets,
    boxes: NDArray[np.float64] | None,
) -> Iterator[bytes]:
    """Encode each sample as one line, without the line ending."""
    encode = msgspec.json.Encoder().encode
    samples = zip(images, sample_ids, strict=True)
    for begin, rows, columns, values in targets.blocks():
        size = min(ragged.BLOCK, targets.shape[0] - begin)
        positive = _names(labels, rows[values > 0], columns[values > 0], size)
        unknown = _names(labels, rows[values < 0], columns[values < 0], size)
        for k, (image, sample) in enumerate(islice(samples, size)):
            line: dict[str, Any] = {"image": image, "positive": positive[k]}
            if unknown[k]:
                line["unknown"] = unknown[k]
            if boxes is not None:
                line["box"] = [int(v) if v.is_integer() else v for v in boxes[begin + k].tolist()]  # 12, not 12.0
            if sample != image:
                line["id"] = sample
            yield encode(line)


def read_lines(path: Path, expected: str) -> ManifestLines:
    """Read a manifest file of the format `expected`.

    Raises:
        DataError: The file is not a valid manifest; see `Manifest.load`.
    """
    content = hashlib.sha256()
    with open_bytes(path) as stream:
        lines = _numbered(stream, content)
        header = _header(next(lines, None), path, expected)
        samples = _Samples(header.labels, path)
        decoder = msgspec.json.Decoder(Line)
        block = []
        for number, line in lines:
            if line.strip():
                block.append((number, _decode(decoder, line, path, number)))
            if len(block) == BLOCK:
                samples.extend(block)
                block = []
        samples.extend(block)
    return samples.finished(header, content.hexdigest())


class _Samples:
    """Samples read so far, in compact form, and the errors in their lines."""

    def __init__(self, labels: Sequence[str], path: Path) -> None:
        self._labels, self._path = labels, path
        self._column = {name: k for k, name in enumerate(labels)}
        self._images, self._ids = TextsBuilder(), TextsBuilder()
        self._codes, self._lengths = array("i"), array("i")
        self._boxes: list[NDArray[np.float64]] = []
        self._own_ids = False
        self._findings, self._label_findings = ValidationReport(), ValidationReport()

    def extend(self, block: Sequence[tuple[int, Line]]) -> None:
        """Add samples with their line numbers."""
        for number, sample in block:
            where = f"{self._path}: line {number}"
            image_name(sample.image, where, self._findings)
            codes = self._coded(sample, where)
            self._codes.extend(codes)
            self._lengths.append(len(codes))
        samples = [sample for _, sample in block]
        self._images.extend([sample.image for sample in samples])
        self._ids.extend([sample.id or sample.image for sample in samples])
        self._own_ids = self._own_ids or any(sample.id for sample in samples)
        boxes = [sample.box for sample in samples if sample.box is not None]
        if boxes:
            self._boxes.append(np.array(boxes, dtype=np.float64))

    def finished(self, header: Header, key: str) -> ManifestLines:
        """Return the content of the file, or raise the collected errors."""
        images, ids = self._images.texts(), self._ids.texts()
        findings = self._findings
        findings.errors += self._label_findings.errors
        for name in repeated(ids):
            findings.error(
                f"{self._path}", f"sample id '{name}' occurs on multiple lines; keep only one of these lines"
            )
        boxed = sum(map(len, self._boxes))
        if boxed and boxed != len(images):
            findings.error(f"{self._path}", "some samples have a box and others do not; prepare the dataset again")
        findings.raise_errors(f"{self._path}: invalid manifest (prepare the dataset again, or correct the file)", "")
        codes, lengths = np.asarray(self._codes, np.int32), np.asarray(self._lengths, np.int32)
        labels = len(header.labels)
        boxes = None
        if boxed:
            boxes = np.concatenate(self._boxes)
        return ManifestLines(
            header=header,
            images=images,
            sample_ids=ids if self._own_ids else (),
            targets=SparseTargets(codes.astype(code_type(labels)), ragged.offsets_of(lengths), labels),
            boxes=boxes,
            key=key,
        )

    def _coded(self, sample: Line, where: str) -> list[int]:
        """Return the codes of a sample's labels; see `SparseTargets`."""
        column = self._column
        positive = {column[name] for name in sample.positive if name in column}
        unknown = {column[name] for name in sample.unknown if name in column}
        # Checked only if necessary: most lines contain only known positive labels.
        if len(positive) < len(sample.positive) or unknown or sample.unknown:
            self._check_names(sample, where)
        if not unknown:
            return sorted(positive)
        merged = {**dict.fromkeys(unknown, -1), **dict.fromkeys(positive, 1)}
        return [k if merged[k] > 0 else -1 - k for k in sorted(merged)]

    def _check_names(self, sample: Line, where: str) -> None:
        positive: set[str] = set(sample.positive)
        for names in (sample.positive, sample.unknown):
            for name in names:
                if name not in self._column:
                    hint = nearest(name, self._labels) or "; prepare the dataset again"
                    what = f"'{name}' is not one of the {counted(len(self._labels), 'label')}{hint}"
                    self._label_findings.error(where, what)
                elif names is sample.unknown and name in positive:
                    self._label_findings.error(
                        where, f"label '{name}' is both positive and unknown; remove one of the two entries"
                    )


def _header(first: tuple[int, bytes] | None, path: Path, expected: str) -> Header:
    if first is None:
        raise DataError(f"{path}: the file is empty; prepare the dataset again")
    header: Header = _decode(msgspec.json.Decoder(Header), first[1], path, 1)
    if header.format != expected:
        raise DataError(f"{path}: the format is '{header.format}' instead of '{expected}'; prepare the dataset again")
    twice = repeated(header.labels)
    if twice:
        raise DataError(f"{path}: line 1: label '{twice[0]}' is listed twice; remove the duplicate")
    return header


def _numbered(stream: IO[bytes], content: Any) -> Iterator[tuple[int, bytes]]:
    r"""Iterate over the lines (ending in `\n`, `\r\n` or `\r`) and their numbers.

    All bytes are added to the hash `content`.
    """
    number = 0
    for read in stream:
        content.update(read)
        if number == 0:
            read = read.removeprefix(BYTE_ORDER_MARK)
        for line in read.splitlines():
            number += 1
            yield number, line


def _decode(decoder: Any, line: bytes, path: Path, number: int) -> Any:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: line {number}: {error}; prepare the dataset again") from error


def _names(labels: Sequence[str], rows: NDArray[np.int64], columns: NDArray[np.int64], size: int) -> list[list[str]]:
    """Return the labels of each sample in a block, in label order."""
    ends = np.searchsorted(rows, np.arange(size + 1)).tolist()
    names = [labels[column] for column in columns.tolist()]
    return [names[start:end] for start, end in pairwise(ends)]


class _CachedArray(msgspec.Struct):
    dtype: str
    shape: list[int]
    begin: int
    checksum: int


class _CacheHeader(msgspec.Struct):
    format: str
    key: str
    fields: dict[str, Any]
    arrays: dict[str, _CachedArray]


def cache_path(manifest: Path) -> Path:
    """Return the path of the binary copy of a manifest file."""
    return manifest.with_name(f".{manifest.name}.cache")


def write_cache(manifest: Path, key: str, fields: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the binary copy of a manifest file, unless the folder is read-only."""
    described, begin = {}, 0
    for name, values in arrays.items():
        begin = -(-begin // ALIGNED) * ALIGNED
        described[name] = _CachedArray(values.dtype.str, list(values.shape), begin, zlib.crc32(_bytes(values)))
        begin += values.nbytes
    header = msgspec.json.encode(_CacheHeader(CACHE_FORMAT, key, dict(fields), described)) + b"\n"
    with contextlib.suppress(MlrecError), atomic_write(cache_path(manifest)) as stream:
        stream.write(header + bytes(-len(header) % ALIGNED))
        start = stream.tell()
        for name, values in arrays.items():
            stream.write(bytes(start + described[name].begin - stream.tell()))
            stream.write(_bytes(values))


def read_cache(manifest: Path, key: str, *, checked: bool = True) -> tuple[dict[str, Any], Arrays] | None:
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
            header = msgspec.json.decode(line, type=_CacheHeader)
            if header.format != CACHE_FORMAT or header.key != key:
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


def _bytes(values: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def _mapped(path: Path, begin: int, place: _CachedArray) -> NDArray[Any]:
    shape = tuple(place.shape)
    if 0 in shape:  # nothing to map
        return np.zeros(shape, dtype=place.dtype)
    # Copy on write: changes to the array do not change the file.
    return np.memmap(path, dtype=place.dtype, mode="c", offset=begin, shape=shape)


def _checksum(stream: Any, begin: int, place: _CachedArray) -> int:
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
