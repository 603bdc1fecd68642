"""Own images and a spreadsheet: `filename,<label>...` with 1, 0 and -1 (unknown), as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.csvfile import CsvFile, read_csv
from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest
from mlrec.datasets.names import SPLIT_NAME, image_name
from mlrec.datasets.sources import Reading, ReadOptions, usual_name
from mlrec.errors import DataError, Findings, nearest, printable

OTHER_TABLES = (".tsv", ".txt", ".xls", ".xlsx", ".json", ".jsonl", ".parquet")
NAME_COLUMN, SPLIT_COLUMN, WHOLE = "filename", "split", "all"
VALUES = {"1": POSITIVE, "0": NEGATIVE, "-1": UNKNOWN, "1.0": POSITIVE, "0.0": NEGATIVE, "-1.0": UNKNOWN}


@dataclass(frozen=True)
class _Table:
    """One CSV file, understood: labels, and a row of targets, a split and a place in the file for each image."""

    file: CsvFile
    labels: tuple[str, ...]
    images: list[str]
    splits: list[str]
    targets: NDArray[np.int8]


def read_csv_labels(path: Path, options: ReadOptions, findings: Findings) -> Reading:
    """Read a CSV file, or a folder that holds one `<split>.csv` a split.

    A file's splits are those of its column `split`, or the one split `all`. Images lie below `options.images`, by
    default below the folder of the file. `options.labels` restricts the labels to these columns: others, a patient's
    number say, are then left alone.

    Raises:
        DataError: no such file or folder, or a file that is no CSV of this form.
    """
    path = path.absolute()
    files = _tables(path, findings) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{printable(path)}: no .csv file in this folder; it needs one <split>.csv a split")
    tables = []
    for file in files:
        try:
            tables.append(_read(file, file.stem if path.is_dir() else None, options.labels, findings))
        except DataError as error:
            if len(files) == 1:
                raise
            findings.errors.append(str(error))  # the other files may have errors, too
    root = (options.images or (path if path.is_dir() else path.parent)).absolute()
    if not root.is_dir():
        raise DataError(f"{printable(root)}: no such folder; give the folder of the images with --images")
    manifests = [manifest for table in tables for manifest in _manifests(table, usual_name(path), root)]
    source = {"kind": "csv", "path": str(path), "images": str(root)}
    return Reading(usual_name(path), manifests=sorted(manifests, key=lambda m: usual_order(m.split)), source=source)


def _tables(folder: Path, findings: Findings) -> list[Path]:
    """The CSV files of a folder, one per split; tables of other kinds are a warning."""
    visible = [file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file()]
    for file in sorted(visible):
        if file.suffix.lower() in OTHER_TABLES:
            findings.warn("tables that are no .csv files were not used", str(file))
    return sorted((f for f in visible if f.suffix.lower() == ".csv"), key=lambda file: usual_order(file.stem))


def usual_order(split: str) -> tuple[int, str]:
    """A key that sorts names of splits: train, val, trainval, test, then the others by name."""
    usual = ("train", "val", "trainval", "test")
    return (usual.index(split) if split in usual else len(usual), split)


def _read(path: Path, split: str | None, chosen: Sequence[str] | None, findings: Findings) -> _Table:
    file = read_csv(path, findings)
    if file.columns[0] != NAME_COLUMN:
        first = printable(file.columns[0])
        raise DataError(f"{printable(path)}: the first column is '{first}', expected '{NAME_COLUMN}'")
    if split is not None and SPLIT_COLUMN in file.columns:
        raise DataError(
            f"{printable(path)}: has a column '{SPLIT_COLUMN}', but here each file is a split; give the file"
        )
    columns = _label_columns(file, chosen)
    images = [image_name(cells[0].strip(), file.where(row, 0), findings) for row, cells in enumerate(file.rows)]
    splits = [split] * len(images) if split is not None else _splits(file, findings)
    labels = tuple(file.columns[column] for column in columns)
    table = _Table(file, labels, images, splits, _targets(file, columns, findings))
    return _without_repeats(table, findings)


def _label_columns(file: CsvFile, chosen: Sequence[str] | None) -> list[int]:
    if chosen is None:
        columns = [k for k, name in enumerate(file.columns) if k > 0 and name != SPLIT_COLUMN]
        if not columns:
            raise DataError(f"{printable(file.path)}: no column of a label; expected filename,label,...")
        return columns
    for name in chosen:
        if name not in file.columns[1:]:
            raise DataError(f"{printable(file.path)}: no column '{printable(name)}'{nearest(name, file.columns[1:])}")
    return [file.columns.index(name) for name in chosen]


def _splits(file: CsvFile, findings: Findings) -> list[str]:
    if SPLIT_COLUMN not in file.columns:
        return [WHOLE] * len(file.rows)
    column = file.columns.index(SPLIT_COLUMN)
    splits = [cells[column].strip() for cells in file.rows]
    for row, split in enumerate(splits):
        if not SPLIT_NAME.fullmatch(split):
            findings.error(
                file.where(row, column), f"'{printable(split)}' is no name of a split; write train, val or test"
            )
    return splits


def _targets(file: CsvFile, columns: Sequence[int], findings: Findings) -> NDArray[np.int8]:
    targets = np.zeros((len(file.rows), len(columns)), dtype=np.int8)
    pick = itemgetter(*columns, columns[0]) if columns else itemgetter(0, 0)  # two at least, so that a tuple comes back
    for row, cells in enumerate(file.rows):
        try:
            targets[row] = [VALUES[cell] for cell in pick(cells)[: len(columns)]]
        except KeyError:
            targets[row] = [_value(file, row, column, findings) for column in columns]
    return targets


def _value(file: CsvFile, row: int, column: int, findings: Findings) -> int:
    text = file.rows[row][column].strip()
    try:
        value = VALUES.get(text, float(text))
    except ValueError:
        value = float("nan")
    if value in (POSITIVE, NEGATIVE, UNKNOWN):
        return int(value)
    what = f"'{printable(text)}' is not 0, 1 or -1 (unknown)" if text else "is empty; write 0, 1 or -1 (unknown)"
    findings.error(file.where(row, column), f"{what}; if the column is no label, name the labels with --labels")
    return NEGATIVE


def _without_repeats(table: _Table, findings: Findings) -> _Table:
    """Identical records once, with a warning; an image with different labels in two records is an error."""
    first: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    kept = []
    for row, (image, split) in enumerate(zip(table.images, table.splits, strict=True)):
        earlier = first.setdefault(image, row)
        if not np.array_equal(table.targets[row], table.targets[earlier]):
            lines = f"{table.file.lines[earlier]} and {table.file.lines[row]}"
            findings.error(f"{table.file.path}", f"{printable(image)} has different labels on lines {lines}; keep one")
        elif (image, split) in seen:
            findings.warn("identical records were taken once", f"{table.file.where(row)}: {image}")
        else:
            kept.append(row)
        seen.add((image, split))
    return _Table(
        file=table.file,
        labels=table.labels,
        images=[table.images[row] for row in kept],
        splits=[table.splits[row] for row in kept],
        targets=table.targets[kept],
    )


def _manifests(table: _Table, name: str, root: Path) -> list[Manifest]:
    rows: dict[str, list[int]] = {}
    for row, split in enumerate(table.splits):
        rows.setdefault(split, []).append(row)
    return [
        Manifest(name, split, root, table.labels, tuple(table.images[row] for row in chosen), table.targets[chosen])
        for split, chosen in rows.items()
    ]
