"""Which images a user means: files, folders, globs, manifests, and boxes by CSV."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlrec.datasets.boxes import hold_pixels
from mlrec.datasets.csvfile import CsvFile, read_csv
from mlrec.datasets.images import SUFFIXES
from mlrec.datasets.manifest import Manifest
from mlrec.errors import DataError, Findings, UsageError, printable

Box = tuple[float, float, float, float]
BOX_COLUMNS = ("x", "y", "width", "height")
MANIFEST = ".jsonl"


@dataclass(frozen=True)
class Item:
    """One thing to look at: an image file, or a box (x, y, width, height in pixels of the stored image) of it."""

    id: str
    path: Path
    box: Box | None = None


def items_of(paths: Sequence[str]) -> Iterator[Item]:
    """The images that `paths` name, in that order: files, folders (with all below them, by name), globs, manifests.

    Folders and globs are read as they are needed. A folder's or glob's files count where their ending is an image's; a
    file named by itself always does. Samples of a manifest (`.jsonl`) keep their ids and boxes; others' ids are paths.

    Raises:
        UsageError: a path that is not there, or a folder or glob without an image; raised before anything is given.
    """
    return (item for found in [_found(path) for path in paths] for item in found)


def boxes_of(file: Path) -> list[Item]:
    """The boxes of a CSV with the columns `filename,x,y,width,height` and, if you like, `id`.

    File names are taken relative to the CSV's folder. Without an id a box is `filename#k`, k counting from 0.

    Raises:
        DataError: columns or numbers that do not fit; all of them are told.
    """
    findings = Findings()
    table = read_csv(file, findings)
    missing = [name for name in ("filename", *BOX_COLUMNS) if name not in table.columns]
    if missing:
        raise DataError(f"{printable(file)}: no column {', '.join(missing)}; needed are filename,x,y,width,height")
    count: dict[str, int] = {}
    items = []
    for row, cells in enumerate(table.rows):
        values = dict(zip(table.columns, cells, strict=True))
        name = values["filename"]
        count[name] = count.get(name, -1) + 1
        box = _box(table, row, findings)
        if box is not None:
            items.append(Item(values.get("id") or f"{name}#{count[name]}", file.parent / name, box))
    findings.raise_errors(f"{printable(file)}: boxes cannot be read", "")
    return items


def _box(table: CsvFile, row: int, findings: Findings) -> Box | None:
    numbers = []
    for name in BOX_COLUMNS:
        column = table.columns.index(name)
        text = table.rows[row][column].strip()
        try:
            numbers.append(float(text))
        except ValueError:
            findings.error(table.where(row, column), f"'{printable(text)}' is no number")
            return None
    x, y, width, height = numbers
    if not all(map(math.isfinite, numbers)) or not hold_pixels(np.array([numbers])).all():
        findings.error(table.where(row), "the box is empty; x, y, width, height are pixels, from 0")
        return None
    return x, y, width, height


def _found(path: str) -> Iterator[Item]:
    """What one path names; checked now, listed later."""
    place = Path(path)
    if place.is_dir():
        found = _below(place)
    elif place.is_file():
        if place.suffix == MANIFEST:
            return iter(_samples(Manifest.load(place)))
        return iter([Item(path, place)])
    elif glob.has_magic(path):
        matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        found = (Path(name) for name in matches if _is_image(name) and Path(name).is_file())
    else:
        what = "is no regular file; give images or folders" if place.exists() else "no such file or folder"
        raise UsageError(f"{printable(path)}: {what}")
    first = next(found, None)
    if first is None:
        raise UsageError(f"{printable(path)}: no image here; endings of images are {' '.join(SUFFIXES)}")
    return _chained(first, found)


def _chained(first: Path, rest: Iterator[Path]) -> Iterator[Item]:
    yield Item(str(first), first)
    for path in rest:
        yield Item(str(path), path)


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(root) / name for name in sorted(files) if _is_image(name))


def _samples(manifest: Manifest) -> list[Item]:
    boxes = [None] * len(manifest) if manifest.boxes is None else [tuple(box) for box in manifest.boxes.tolist()]
    return [
        Item(sample, manifest.path_of(k), box)
        for k, (sample, box) in enumerate(zip(manifest.sample_ids, boxes, strict=True))
    ]


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not Path(name).name.startswith(".")
