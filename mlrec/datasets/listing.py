"""Functions that list the images specified by the user.

Images are specified as files, folders, globs, lists, manifests, packed files (tar or Parquet), or a CSV file of boxes.
"""

from __future__ import annotations

import glob
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.boxes import non_empty
from mlrec.datasets.image_paths import Omitted, files_below, image_files, matching_images
from mlrec.datasets.images.decode import SUFFIXES, Decoder, Stored, decode_bytes, load
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.csv_file import TextTable, read_csv
from mlrec.utils.errors import DataError, UsageError, ValidationReport
from mlrec.utils.names import alike

Box = tuple[float, float, float, float]
BOX_COLUMNS = ("x", "y", "width", "height")
MANIFEST = ".jsonl"
LIST = ".txt"
PACKED = (".tar", ".tar.gz", ".tgz", ".parquet")  # files that contain images


@dataclass(frozen=True)
class Item:
    """Image, or box inside an image, that a command processes.

    Attributes:
        id: Name of the item in results.
        path: Path of the image file, or the name of an image that is not stored as a separate file.
        box: Box to use instead of the whole image, as x, y, width, height in pixels of the stored image.
        content: Content to use instead of the file at `path`. It can be the bytes of an image file, a function that
            returns these bytes, or an (H, W, 3) uint8 array of RGB pixels.
    """

    id: str
    path: Path
    box: Box | None = None
    content: bytes | Callable[[], bytes] | NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Source:
    """Images from one path or from one packed file.

    Attributes:
        items: Iterator over the images, which are read as needed.
        packed: Tar or Parquet file that contains the images; None if each image is a separate file.
    """

    items: Iterator[Item]
    packed: Path | None = None


def load_item(item: Item, how: Decoder = "fast") -> Stored:
    """Decode the image of an item without applying the EXIF orientation; see `decode.load`.

    Raises:
        DataError: The image cannot be decoded.
    """
    if item.content is None:
        return load(item.path, how)
    if isinstance(item.content, np.ndarray):
        return Stored(item.content, 1, False)
    content = item.content if isinstance(item.content, bytes) else item.content()
    return decode_bytes(content, item.id, how)


def items_of(paths: Sequence[str], report: Callable[[str], None] | None = None) -> Iterator[Item]:
    """Iterate over the images in `paths`, in order; see `sources_of` for arguments and errors."""
    return (item for source in sources_of(paths, report) for item in source.items)


def sources_of(paths: Sequence[str], report: Callable[[str], None] | None = None) -> Iterator[Source]:
    """Iterate over the image sources in `paths`, in order.

    Folders and globs are read lazily; see `image_paths`. A file that is specified directly may have any extension.
    Samples of a manifest (`.jsonl`) keep their ids and boxes. The id of an image file is its path; for images in packed
    files, see `packed_items`. Packed files are tar shards and Parquet files; they are also read from a folder that
    contains no image files. A list (`.txt`) has one path per line, relative to the folder of the list.

    Args:
        paths: Paths of files, folders (including subfolders), lists, manifests and packed files, or globs.
        report: Function that is called once for each folder or glob with skipped files, after its last image. It
            receives one line about the skipped files.

    Raises:
        UsageError: A path does not exist or is neither a file nor a folder, or a folder or glob contains no images. The
            message lists up to ten invalid paths. The error is raised before the first image is returned.
    """
    findings, sources = ValidationReport(), []
    for path in paths:
        try:
            sources.append(_sources_in(path, report))
        except UsageError as error:
            findings.errors.append(str(error))
    findings.raise_errors("invalid paths", "", UsageError)
    return (source for several in sources for source in several)


def boxes_of(file: Path) -> list[Item]:
    """Read boxes from a CSV file with the columns `filename,x,y,width,height` and, optionally, `id`.

    File names are relative to the folder of the CSV file. The default id of a box is `filename#k`, where k counts the
    boxes with this file name from 0.

    Raises:
        DataError: A column is missing, a number is invalid, or a box is empty. The message lists up to ten errors.
    """
    findings = ValidationReport()
    table = read_csv(file, findings)
    missing = [name for name in ("filename", *BOX_COLUMNS) if name not in table.columns]
    if missing:
        raise DataError(
            f"{file}: the header does not contain {', '.join(missing)}; expected the columns "
            "'filename,x,y,width,height'"
        )
    count: dict[str, int] = {}
    items = []
    for row, cells in enumerate(table.rows):
        values = dict(zip(table.columns, cells, strict=True))
        name = values["filename"]
        count[name] = count.get(name, -1) + 1
        box = _box(table, row, findings)
        if box is not None:
            items.append(Item(values.get("id") or f"{name}#{count[name]}", file.parent / name, box))
    findings.raise_errors(f"{file}: invalid boxes", "")
    return items


def _box(table: TextTable, row: int, findings: ValidationReport) -> Box | None:
    numbers = []
    for name in BOX_COLUMNS:
        column = table.columns.index(name)
        text = table.rows[row][column].strip()
        try:
            numbers.append(float(text))
        except ValueError:
            findings.error(table.where(row, column), f"'{text}' is not a number; correct the cell")
            return None
    x, y, width, height = numbers
    if not all(map(math.isfinite, numbers)) or not non_empty(np.array([numbers])).all():
        findings.error(
            table.where(row),
            "the box is empty, or a number is NaN or infinite; write x, y, width and height in pixels, such as "
            "0,0,64,48",
        )
        return None
    return x, y, width, height


def _sources_in(path: str, report: Callable[[str], None] | None) -> Iterator[Source]:
    """Return the sources of one path. The path is checked immediately; a folder is listed later."""
    place, omitted = Path(path), Omitted()
    if place.is_dir():
        images = image_files(place, omitted)
    elif place.is_file():
        return iter([_file_source(path)])
    elif glob.has_magic(path):
        packed = _packed_matches(path)
        if packed:
            return map(_file_source, packed)
        images = matching_images(path, omitted)
    else:
        if place.exists():
            raise UsageError(f"{path}: the path is not a regular file; specify image files or folders")
        near = alike(place)
        hint = f"; did you mean {near}?" if near else "; check the path"
        raise UsageError(f"{path}: no such file or folder{hint}")
    first = next(images, None)  # read now, so that a folder without images raises an error immediately
    if first is None and place.is_dir():
        shards = (str(file) for file in files_below(place, Omitted()) if is_packed(file.name))
        first_shard = next(shards, None)
        if first_shard is not None:
            return map(_file_source, itertools.chain([first_shard], shards))
    if first is None:
        skipped = omitted.describe()
        reason = f" ({skipped})" if skipped else ""
        raise UsageError(f"{path}: no images found{reason}; supported extensions: {' '.join(SUFFIXES)}")
    return iter([Source(_chained(path, first, images, omitted, report))])


def is_packed(name: str) -> bool:
    """Return whether a file is a packed file that contains images, based on its name.

    Example:
        >>> is_packed("train-000000.tar"), is_packed("a.jpg")
        (True, False)
    """
    return name.casefold().endswith(PACKED)


def _packed_matches(pattern: str) -> list[str]:
    """Return the packed files that match a glob, if any.

    Raises:
        UsageError: The glob also matches image files.
    """
    # Same rules as for images: `glob` alone would repeatedly follow a link to a parent folder.
    others = Omitted()
    images = [str(file) for file in matching_images(pattern, others)]
    packed = [str(file) for file in others.files if is_packed(file.name)]
    if packed and images:
        raise UsageError(
            f"{pattern}: the pattern matches both images (first: {images[0]}) and packed files "
            f"(first: {packed[0]}); use a separate pattern for each kind"
        )
    return packed


def _file_source(path: str) -> Source:
    file = Path(path)
    if is_packed(file.name):
        from mlrec.datasets.packed import packed_items

        return Source(packed_items(file), file)
    suffix = file.suffix.casefold()
    if suffix == MANIFEST:
        return Source(iter(_samples(Manifest.load(file))))
    if suffix == LIST:
        return Source(_listed(file))
    return Source(iter([Item(path, file)]))


def _listed(file: Path) -> Iterator[Item]:
    """Iterate over the images in a list, which is read line by line.

    A missing image is reported as unreadable.
    """
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for line in lines:
                name = line.strip()
                if name:
                    yield Item(str(file.parent / name), file.parent / name)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file}: the list of paths cannot be read ({error}); write one path per line in UTF-8"
        ) from error


def _chained(
    path: str, first: Path, rest: Iterator[Path], omitted: Omitted, report: Callable[[str], None] | None
) -> Iterator[Item]:
    yield Item(str(first), first)
    for file in rest:
        yield Item(str(file), file)
    skipped = omitted.describe()
    if report and skipped:
        report(f"{path}: some files were skipped ({skipped})")


def _samples(manifest: Manifest) -> list[Item]:
    return [Item(sample, manifest.path_of(k), manifest.box_of(k)) for k, sample in enumerate(manifest.sample_ids)]
