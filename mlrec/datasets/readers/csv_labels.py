"""Own images and a spreadsheet: `filename,<label>...` with 1, 0 and -1 (unknown), as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import NEGATIVE, Manifest, duplicates_in
from mlrec.datasets.names import image_name
from mlrec.datasets.readers.columns import SPLIT_COLUMN, cell_key, cell_meanings, label_columns, split_column
from mlrec.datasets.readers.csv_file import CsvFile, read_csv
from mlrec.datasets.readers.registry import Reading, ReadOptions, usual_name
from mlrec.datasets.split_names import WHOLE, known_split, resolve_names, usual_order
from mlrec.utils.errors import DataError, ValidationReport, printable

OTHER_TABLES = (".tsv", ".txt", ".xls", ".xlsx", ".json", ".jsonl", ".parquet")
NAME_COLUMN = "filename"
USUAL_CELLS = ("1", "0", "-1", "1.0", "0.0", "-1.0", "True", "False")  # looked up without parsing


@dataclass(frozen=True)
class _Table:
    """One CSV file, understood: labels, the values of their cells, and for each image a split and a row of targets."""

    file: CsvFile
    labels: tuple[str, ...]
    values: frozenset[float | str]
    images: list[str]
    splits: list[str]
    targets: NDArray[np.int8]


def read_csv_labels(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read a CSV file, or a folder that holds one `<split>.csv` per split.

    A file's splits are those of its column `split`, or the one split `all`; so are those of the only file of a folder
    if it is not named like a split. Names of splits are resolved by `splitnames`. Images are below `options.images`,
    by default below the folder of the file. Labels are `options.labels`, or all columns that are not named like
    metadata.

    Raises:
        DataError: no such file or folder, or a file that is not a CSV of this form.
        UsageError: values of `--negative` and `--unknown` that contradict each other.
    """
    path = path.absolute()
    meanings = cell_meanings(options.negative, options.unknown)
    paths = _tables(path, findings) if path.is_dir() else [path]
    if not paths:
        raise DataError(f"{printable(path)}: no .csv file in this folder; it needs one <split>.csv per split")
    files = _readable(paths, findings)
    if not files:
        return Reading(usual_name(path), [], {})
    by_file = path.is_dir() and (len(paths) > 1 or _names_split(paths[0].stem, options))
    splits = _splits_of_files(files, options, findings) if by_file else _splits_of_rows(files[0], options, findings)
    tables = [_table(file, rows, options, meanings, findings) for file, rows in zip(files, splits, strict=True)]
    _check_minus_one(tables, options, findings)
    root = (options.images or (path if path.is_dir() else path.parent)).absolute()
    if not root.is_dir():
        raise DataError(f"{printable(root)}: no such folder; give the folder of the images with --images")
    manifests = [manifest for table in tables for manifest in _manifests(table, usual_name(path), root)]
    source = {"kind": "csv", "path": str(path), "images": str(root)}
    return Reading(usual_name(path), manifests=sorted(manifests, key=lambda m: usual_order(m.split)), source=source)


def _tables(folder: Path, findings: ValidationReport) -> list[Path]:
    """The CSV files of a folder, one per split; tables of other kinds are a warning."""
    visible = [file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file()]
    for file in sorted(visible):
        if file.suffix.lower() in OTHER_TABLES:
            findings.warn("tables that are no .csv files were not used", str(file))
    return sorted((f for f in visible if f.suffix.lower() == ".csv"), key=lambda file: usual_order(file.stem))


def _readable(paths: Sequence[Path], findings: ValidationReport) -> list[CsvFile]:
    """The files, read; of several, each one that cannot be read is an error of its own."""
    files = []
    for path in paths:
        try:
            files.append(_read(path, findings))
        except DataError as error:
            if len(paths) == 1:
                raise
            findings.errors.append(str(error))
    return files


def _read(path: Path, findings: ValidationReport) -> CsvFile:
    file = read_csv(path, findings, drop_index=True)
    if file.columns[0] != NAME_COLUMN:
        first = printable(file.columns[0])
        raise DataError(f"{printable(path)}: the first column is '{first}', expected '{NAME_COLUMN}'")
    return file


def _names_split(stem: str, options: ReadOptions) -> bool:
    return known_split(stem) is not None or stem.casefold() in options.split_names


def _splits_of_files(files: Sequence[CsvFile], options: ReadOptions, findings: ValidationReport) -> list[list[str]]:
    """The split of each row of each file: one split per file, named after it."""
    for file in files:
        if split_column(file, options.labels, (), findings) is not None:
            raise DataError(
                f"{printable(file.path)}: has a column '{SPLIT_COLUMN}', but here each file is a split; give the file"
            )
    names = resolve_names({file.path.stem: str(file.path) for file in files}, options.split_names, findings)
    splits = [names[file.path.stem] for file in files]
    if not findings.errors:
        for split in duplicates_in(splits):
            findings.error("--splits", f"two files are of split '{printable(split)}'; join the files")
    return [[split] * len(file.rows) for split, file in zip(splits, files, strict=True)]


def _splits_of_rows(file: CsvFile, options: ReadOptions, findings: ValidationReport) -> list[list[str]]:
    """The split of each row of the one file, by its column of splits."""
    column = split_column(file, options.labels, options.split_names, findings)
    if column is None:
        resolve_names({}, options.split_names, findings)
        return [[WHOLE] * len(file.rows)]
    places: dict[str, str] = {}
    for row, cells in enumerate(file.rows):
        if cells[column] not in places:
            places[cells[column]] = file.where(row, column)
    names = resolve_names(places, options.split_names, findings, one_column=True)
    return [[names[cells[column]] for cells in file.rows]]


def _table(
    file: CsvFile,
    splits: list[str],
    options: ReadOptions,
    meanings: Mapping[float | str, int],
    findings: ValidationReport,
) -> _Table:
    """One file with its labels, targets and splits, identical records once."""
    columns = label_columns(file, options.labels, findings)
    images = [image_name(cells[0].strip(), file.where(row, 0), findings) for row, cells in enumerate(file.rows)]
    labels = tuple(file.columns[column] for column in columns)
    texts = {cells[column] for column in columns for cells in file.rows}
    targets = _targets(file, columns, meanings, findings)
    table = _Table(file, labels, frozenset(map(cell_key, texts)), images, splits, targets)
    return _without_repeats(table, findings)


def _targets(
    file: CsvFile, columns: Sequence[int], meanings: Mapping[float | str, int], findings: ValidationReport
) -> NDArray[np.int8]:
    targets = np.zeros((len(file.rows), len(columns)), dtype=np.int8)
    usual = {text: meanings[cell_key(text)] for text in USUAL_CELLS}
    pick = itemgetter(*columns, columns[0]) if columns else itemgetter(0, 0)  # two at least, so that a tuple comes back
    for row, cells in enumerate(file.rows):
        try:
            targets[row] = [usual[cell] for cell in pick(cells)[: len(columns)]]
        except KeyError:
            targets[row] = [_value(file, row, column, meanings, findings) for column in columns]
    return targets


def _value(
    file: CsvFile, row: int, column: int, meanings: Mapping[float | str, int], findings: ValidationReport
) -> int:
    text = file.rows[row][column].strip()
    value = meanings.get(cell_key(text))
    if value is not None:
        return value
    what = f"'{printable(text)}' is not 0, 1 or -1 (unknown)" if text else "is empty; write 0, 1 or -1 (unknown)"
    remedy = "if the column is no label, name the labels with --labels"
    if text:
        remedy += f"; else give --negative {printable(text)} or --unknown {printable(text)}"
    findings.error(file.where(row, column), f"{what}; {remedy}")
    return NEGATIVE


def _check_minus_one(tables: Sequence[_Table], options: ReadOptions, findings: ValidationReport) -> None:
    """Report tables in which -1, or 0, may mean something else than it was taken for."""
    given = {cell_key(text) for text in (options.negative, options.unknown) if text is not None}
    held = {value for table in tables for value in table.values}
    file = tables[0].file.path
    if -1.0 in held - given and held & {1.0, "true"} and not held & {0.0, "false"}:
        findings.error(
            f"{file}",
            "the labels are 1 and -1 and never 0, so -1 may mean negative or unknown; "
            "give --negative -1 or --unknown -1",
        )
    if options.negative is not None and 0.0 in held and 0.0 not in given:
        findings.warn("0 is negative, too, beside the value of --negative", f"{file}; --unknown 0 makes it unknown")


def _without_repeats(table: _Table, findings: ValidationReport) -> _Table:
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
    return replace(
        table,
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
