"""Images that the user names: files, folders, globs, manifests, and a CSV of boxes."""

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
    """An image file, or a box in it (x, y, width, height in pixels of the stored image)."""

    id: str
    path: Path
    box: Box | None = None


def items_of(paths: Sequence[str], report: Callable[[str], None] | None = None) -> Iterator[Item]:
    """Iterate over the images that `paths` name, in that order.

    Folders and globs are read as needed, by the rules of `image_paths`. A file that is named directly may have any
    extension. Samples of a manifest (`.jsonl`) keep their ids and boxes; the ids of other images are paths.

    Args:
        paths: Files, folders (with all folders below), globs, and manifests.
        report: Function that receives one line per folder or glob with skipped files, after its last image.

    Raises:
        UsageError: A path does not exist, or a folder or glob has no image; raised before the first image.
    """
    findings, sources = ValidationReport(), []
    for path in paths:
        try:
            sources.append(_images_of(path, report))
        except UsageError as error:
            findings.errors.append(str(error))
    findings.raise_errors("paths cannot be used", "", UsageError)
    return (item for items in sources for item in items)


def boxes_of(file: Path) -> list[Item]:
    """Read the boxes of a CSV with the columns `filename,x,y,width,height` and, optionally, `id`.

    File names are relative to the folder of the CSV. The default id of a box is `filename#k`, k counted from 0.

    Raises:
        DataError: A column is missing or a number is invalid; all errors are listed.
    """
    findings = ValidationReport()
    table = read_csv(file, findings)
    missing = [name for name in ("filename", *BOX_COLUMNS) if name not in table.columns]
    if missing:
        raise DataError(f"{printable(file)}: no column {', '.join(missing)}; needs filename,x,y,width,height")
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
            findings.error(table.where(row, column), f"'{printable(text)}' is not a number")
            return None
    x, y, width, height = numbers
    if not all(map(math.isfinite, numbers)) or not non_empty(np.array([numbers])).all():
        findings.error(table.where(row), "the box is empty; x, y, width, height are pixels, from 0")
        return None
    return x, y, width, height


def _images_of(path: str, report: Callable[[str], None] | None) -> Iterator[Item]:
    """The images of one path. The path is checked now, a folder is listed later."""
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
        if place.exists():
            raise UsageError(f"{printable(path)}: is not a regular file; give images or folders")
        near = alike(place)
        hint = f"; did you mean {printable(near)}?" if near else "; check the path"
        raise UsageError(f"{printable(path)}: no such file or folder{hint}")
    first = next(images, None)
    if first is None:
        skipped = omitted.describe()
        reason = f" ({skipped})" if skipped else ""
        raise UsageError(f"{printable(path)}: no image here{reason}; image extensions are {' '.join(SUFFIXES)}")
    return _chained(path, first, images, omitted, report)


def _chained(
    path: str, first: Path, rest: Iterator[Path], omitted: Omitted, report: Callable[[str], None] | None
) -> Iterator[Item]:
    yield Item(str(first), first)
    for file in rest:
        yield Item(str(file), file)
    skipped = omitted.describe()
    if report and skipped:
        report(f"{printable(path)}: skipped: {skipped}")


def _samples(manifest: Manifest) -> list[Item]:
    boxes = [None] * len(manifest) if manifest.boxes is None else [tuple(box) for box in manifest.boxes.tolist()]
    return [
        Item(sample, manifest.path_of(k), box)
        for k, (sample, box) in enumerate(zip(manifest.sample_ids, boxes, strict=True))
    ]
