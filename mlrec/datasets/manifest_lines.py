"""Encoding and decoding of manifest files, one block of samples at a time."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.names import image_name
from mlrec.datasets.sparse_targets import SparseTargets, code_type
from mlrec.utils import ragged
from mlrec.utils.errors import DataError, ValidationReport, counted, nearest
from mlrec.utils.files import open_bytes
from mlrec.utils.texts import BLOCK, Texts, TextsBuilder, repeated

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
            findings.error(f"{self._path}", f"sample id '{name}' is repeated; keep one")
        boxed = sum(map(len, self._boxes))
        if boxed and boxed != len(images):
            findings.error(f"{self._path}", "some samples have a box and others do not; prepare the dataset again")
        findings.raise_errors(f"{self._path}: invalid manifest (prepare the dataset again)", "")
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
                    self._label_findings.error(where, f"'{name}' is both positive and unknown; keep one of the two")


def _header(first: tuple[int, bytes] | None, path: Path, expected: str) -> Header:
    if first is None:
        raise DataError(f"{path}: the file is empty; prepare the dataset again")
    header: Header = _decode(msgspec.json.Decoder(Header), first[1], path, 1)
    if header.format != expected:
        raise DataError(f"{path}: the format is {header.format}, expected {expected}; prepare the dataset again")
    twice = repeated(header.labels)
    if twice:
        raise DataError(f"{path}: line 1: label '{twice[0]}' is repeated; keep one")
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
