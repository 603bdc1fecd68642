"""Which images a user means: files, folders, globs, manifests, and boxes by CSV."""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlrec.datasets.boxes import non_empty
from mlrec.datasets.image_paths import Omitted, image_files, matching_images
from mlrec.datasets.images.decode import SUFFIXES
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.names import alike
from mlrec.datasets.readers.csv_file import TextTable, read_csv
from mlrec.utils.errors import DataError, UsageError, ValidationReport, printable

Box = tuple[float, float, float, float]
BOX_COLUMNS = ("x", "y", "width", "height")
MANIFEST = ".jsonl"


@dataclass(frozen=True)
class Item:
    """One thing to look at: an image file, or a box (x, y, width, height in pixels of the stored image) of it."""

    id: str
    path: Path
    box: Box | None = None


def items_of(paths: Sequence[str], report: Callable[[str], None] | None = None) -> Iterator[Item]:
    """The images that `paths` name, in that order: files, folders (with all below them, by name), globs, manifests.

    Folders and globs are read as they are needed, by the rules of `image_paths`. A file that is named by itself is
    taken with any ending. Samples of a manifest (`.jsonl`) keep their ids and boxes; the ids of others are paths.

    Args:
        paths: files, folders, globs, manifests.
        report: receives one line per folder or glob in which not everything was taken, after its last image.

    Raises:
        UsageError: paths that do not exist, and folders or globs without an image; raised before the first image.
    """
    findings, found = ValidationReport(), []
    for path in paths:
        try:
            found.append(_found(path, report))
        except UsageError as error:
            findings.errors.append(str(error))
    findings.raise_errors("paths cannot be used", "", UsageError)
    return (item for items in found for item in items)


def boxes_of(file: Path) -> list[Item]:
    """The boxes of a CSV with the columns `filename,x,y,width,height` and, if you like, `id`.

    File names are taken relative to the CSV's folder. Without an id a box is `filename#k`, k counting from 0.

    Raises:
        DataError: columns or numbers that do not fit; all of them are told.
    """
    findings = ValidationReport()
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


def _box(table: TextTable, row: int, findings: ValidationReport) -> Box | None:
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
    if not all(map(math.isfinite, numbers)) or not non_empty(np.array([numbers])).all():
        findings.error(table.where(row), "the box is empty; x, y, width, height are pixels, from 0")
        return None
    return x, y, width, height


def _found(path: str, report: Callable[[str], None] | None) -> Iterator[Item]:
    """The images that one path names. The path is checked now, a folder is listed later."""
    place, omitted = Path(path), Omitted()
    if place.is_dir():
        images = image_files(place, omitted)
    elif place.is_file():
        if place.suffix == MANIFEST:
            return iter(_samples(Manifest.load(place)))
        return iter([Item(path, place)])
    elif glob.has_magic(path):
        images = matching_images(path, omitted)
    else:
        near = alike(place)
        what = "is no regular file; give images or folders" if place.exists() else "no such file or folder"
        raise UsageError(f"{printable(path)}: {what}{f'; there is {printable(near)}' if near else ''}")
    first = next(images, None)
    if first is None:
        there = f" ({text})" if (text := omitted.describe()) else ""
        raise UsageError(f"{printable(path)}: no image here{there}; endings of images are {' '.join(SUFFIXES)}")
    return _chained(path, first, images, omitted, report)


def _chained(
    path: str, first: Path, rest: Iterator[Path], omitted: Omitted, report: Callable[[str], None] | None
) -> Iterator[Item]:
    yield Item(str(first), first)
    for file in rest:
        yield Item(str(file), file)
    if report and (text := omitted.describe()):
        report(f"{printable(path)}: not taken: {text}")


def _samples(manifest: Manifest) -> list[Item]:
    boxes = [None] * len(manifest) if manifest.boxes is None else [tuple(box) for box in manifest.boxes.tolist()]
    return [
        Item(sample, manifest.path_of(k), box)
        for k, (sample, box) in enumerate(zip(manifest.sample_ids, boxes, strict=True))
    ]
