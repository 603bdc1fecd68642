"""Reader for official split files: one image list per split, or a table of images and split names.

For example, ChestX-ray14 has the lists `train_val_list.txt` and `test_list.txt`, and CelebA has the table
`list_eval_partition.csv` with the splits 0, 1 and 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlrec.datasets.manifest import Manifest
from mlrec.datasets.split_names import known_split, resolve_names, usual_order
from mlrec.utils.errors import DataError, UsageError, ValidationReport
from mlrec.utils.files import read_text
from mlrec.utils.names import SPLIT_NAME, normal

FLAG = "--split-file"
_COLUMNS = re.compile(r"[,;\t ]+")


@dataclass(frozen=True)
class SplitFile:
    """File that assigns images to splits, passed with `--split-file`.

    Attributes:
        path: Path of the text file.
        split: Split of all images in the file, or None if the file has a second column with the split of each image.
    """

    path: Path
    split: str | None


@dataclass(frozen=True)
class _Listed:
    """An image as listed in a file, the split name in the file, and the line for messages."""

    image: str
    split: str
    place: str


def parse_split_file(text: str) -> SplitFile:
    """Parse `SPLIT=FILE`, or `FILE` for a table of images and split names.

    Raises:
        UsageError: The name of the split is invalid, or FILE is empty.

    Example:
        >>> parse_split_file("test=lists/test.txt").split
        'test'
    """
    split, equals, file = text.partition("=")
    if not equals:
        return SplitFile(Path(text), None)
    split = known_split(split) or split.strip()
    if not SPLIT_NAME.fullmatch(split) or not file:
        raise UsageError(f"{FLAG} {text}: expected SPLIT=FILE, for example test=test_list.txt")
    return SplitFile(Path(file), split)


def divide(
    manifests: Sequence[Manifest], files: Sequence[SplitFile], names: Mapping[str, str], findings: ValidationReport
) -> list[Manifest]:
    """Divide the samples of a source into splits, according to files that list the images of each split.

    A listed image is found by its path or by its file name, with or without the extension. A short name that multiple
    images share is an error. Images that are not listed are skipped with a warning. Listed images that are not in the
    source are also skipped with a warning.

    Args:
        manifests: Manifest of the only split in the source.
        files: Files that assign images to splits, passed with `--split-file`.
        names: Split names from `--splits`, for the split column of a table.
        findings: Report that receives errors and warnings.

    Raises:
        DataError: The source already has splits, a file cannot be read, a line of a table has no split, or no listed
            image is in the source.
    """
    if len(manifests) != 1:
        own = ", ".join(manifest.split for manifest in manifests)
        raise DataError(f"{FLAG}: the source already has splits ({own}); omit {FLAG}")
    (whole,) = manifests
    rows_of = _rows_by_name(whole.images)
    listed = [line for file in files for line in _lines(file, rows_of, names)]
    columns = {line.split: line.place for line in reversed(listed)}
    given = {file.split for file in files}
    resolved = {split: split for split in given if split is not None}
    resolved |= resolve_names({own: columns[own] for own in columns if own not in given}, names, findings)
    rows: dict[str, dict[int, None]] = {}
    for line in listed:
        found = rows_of.get(normal(line.image))
        if found is None:
            findings.warn(
                f"images listed in {FLAG} but missing from the source were skipped", f"{line.image} ({line.place})"
            )
            continue
        if not found:
            findings.error(line.place, f"multiple images are named '{line.image}'; write their full paths")
            continue
        rows.setdefault(resolved[line.split], {}).update(dict.fromkeys(found))
    taken = {row for chosen in rows.values() for row in chosen}
    for row, image in enumerate(whole.images):
        if row not in taken:
            findings.warn(f"images that are not listed in any {FLAG} were skipped", image)
    if not taken:
        raise DataError(f"{files[0].path}: no image from the source is listed; check the names in the file")
    return [whole.subset(list(rows[split]), split) for split in sorted(rows, key=usual_order)]


def _rows_by_name(images: Sequence[str]) -> dict[str, list[int]]:
    """Map each possible image name to its rows; a short name that multiple images share has no rows."""
    rows_of: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        rows_of.setdefault(normal(image), []).append(row)
    owner: dict[str, str] = {}
    shared = set()
    for image in rows_of:
        for short in _short_names(image):
            if owner.setdefault(short, image) != image:
                shared.add(short)
    short_names = {short: rows_of[image] for short, image in owner.items() if short not in shared}
    return {**{short: [] for short in shared}, **short_names, **rows_of}


def _short_names(image: str) -> set[str]:
    name = image.rpartition("/")[2]
    return {image.rpartition(".")[0], name, name.rpartition(".")[0]}


def _lines(file: SplitFile, known: Mapping[str, list[int]], names: Mapping[str, str]) -> Iterable[_Listed]:
    """Return the listed images; the first line of a table may be its header."""
    for number, line in enumerate(read_text(file.path).split("\n"), 1):
        text = line.strip()
        if not text:
            continue
        place = f"{file.path}: line {number}"
        if file.split is not None:
            yield _Listed(_found_name(text, known), file.split, place)
            continue
        cells = _COLUMNS.split(text)
        if len(cells) < 2:
            raise DataError(
                f"{place}: the line has no second column with the split; add one, or use {FLAG} SPLIT={file.path}"
            )
        own = cells[-1].strip('"')
        image = text[: -len(cells[-1])].rstrip(",;\t ").strip('"')
        is_header = number == 1 and known_split(own) is None and own.casefold() not in names
        if is_header and normal(image) not in known:
            continue
        yield _Listed(_found_name(image, known), own, place)


def _found_name(image: str, known: Mapping[str, list[int]]) -> str:
    """Return the name as listed, or its last part if only this part is known.

    Lists may contain longer paths.
    """
    name = normal(image)
    last = name.rpartition("/")[2]
    return last if name not in known and last in known else image
