"""Reader for a label table and its images.

The table has one column per label, or one column of label names, or one row per image and label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlrec.datasets.manifest import Manifest
from mlrec.datasets.manifest_storage import joined as joined_targets
from mlrec.datasets.readers.columns import NoImageColumnError, RoleFinder, cell_key, cell_meanings
from mlrec.datasets.readers.csv_file import TextTable
from mlrec.datasets.readers.registry import Reading, ReadOptions, usual_name
from mlrec.datasets.readers.table_file import PARQUET, read_table
from mlrec.datasets.readers.table_folder import TableSource, check_sources, table_sources
from mlrec.datasets.readers.table_images import TableImages
from mlrec.datasets.readers.table_labels import (
    Samples,
    TableRows,
    form_note,
    is_long,
    labels_of,
    listed_samples,
    long_samples,
    parse_names,
    wide_samples,
)
from mlrec.datasets.readers.table_parquet import ParquetTable
from mlrec.datasets.readers.table_store import TextColumn, constant
from mlrec.datasets.split_names import WHOLE, resolve_names, usual_order
from mlrec.utils.errors import DataError, ValidationReport, nearest
from mlrec.utils.files import folder_of
from mlrec.utils.names import JOINED, joined_name
from mlrec.utils.texts import Texts, repeated
from mlrec.utils.texts import joined as joined_texts

NAME_COLUMN = "filename"  # in tables written by mlrec


@dataclass(frozen=True)
class _Table:
    """One table, and its Parquet file, if any."""

    source: TableSource
    texts: TextTable
    parquet: ParquetTable | None

    @property
    def image_column(self) -> str | None:
        """Return the column that contains images as bytes."""
        return self.parquet.image_column if self.parquet is not None else None


def read_csv_labels(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read a label table, or a folder of tables.

    A table can be delimited text in any dialect, or an Excel, Parquet, JSON or JSON Lines file. The splits of a file
    are read from its split column; without a split column, the only split is `all`. In a folder, each table is one
    split; if the folder contains a single table that is not named after a split, the splits are also read from its
    split column. Split names are resolved by `split_names`. Images are below `options.images` (default: the folder of
    the file), or inside a Parquet file.

    Raises:
        DataError: The file or image folder does not exist, the only file is not a label table, or one of multiple
            files has a split column. Other faults of multiple files are reported in `findings`.
        UsageError: Two options contradict each other.
    """
    path = path.absolute()
    meanings = cell_meanings(options)
    sources = [TableSource(path, None)]
    if path.is_dir():
        sources = table_sources(path, options.split_names, findings)
        check_sources(path, sources)
    tables = _readable(sources, findings)
    if not tables:
        return Reading(usual_name(path), [], {})
    _check_ignored(tables, options)
    root = (options.images or folder_of(path)).absolute()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; specify the image folder with --images")
    images = TableImages(root, findings)
    tables, rows = _all_rows(tables, images, options, meanings, findings)
    if len(rows) < len(tables):
        return Reading(usual_name(path), [], {})
    if path.is_dir() and (len(tables) > 1 or tables[0].source.split is not None):
        splits = _splits_of_files(rows, tables, options, findings)
    else:
        splits = _splits_of_rows(rows[0], options, findings)
    rows = [replace(read, splits=own) for read, own in zip(rows, splits, strict=True)]
    unpack = None
    if any(table.image_column is not None for table in tables):
        rows = _packed_names(rows, tables)
        unpack = _unpacker(rows, tables)
    footnotes: list[str] = []
    samples = _samples(rows, tables, options, meanings, footnotes, findings)
    _check_minus_one(samples, options, findings)
    manifests = _joined([manifest for one in samples for manifest in _manifests(one, usual_name(path), root)], findings)
    return Reading(
        usual_name(path),
        manifests=sorted(manifests, key=lambda manifest: usual_order(manifest.split)),
        source={"kind": "csv", "path": str(path), "images": str(root)},
        footnotes=list(dict.fromkeys(footnotes)),
        unpack=unpack,
    )


def _readable(sources: Sequence[TableSource], findings: ValidationReport) -> list[_Table]:
    """Read the tables; each unreadable table is reported as a separate error."""
    tables = []
    for source in sources:
        try:
            texts = read_table(source.path, findings)
            if not texts.rows:  # an error has already been added for each record
                continue
            parquet = None
            if source.path.suffix.lower() in PARQUET:
                parquet = ParquetTable(source.path)
            tables.append(_Table(source, texts, parquet))
        except DataError as error:
            if len(sources) == 1:
                raise
            findings.errors.append(str(error))
    return tables


def _check_ignored(tables: Sequence[_Table], options: ReadOptions) -> None:
    there = [column for table in tables for column in table.texts.columns]
    for name in options.ignore_columns:
        if name not in there:
            raise DataError(f"{tables[0].source.path}: --ignore-columns: no column '{name}'{nearest(name, there)}")


def _all_rows(
    tables: Sequence[_Table],
    images: TableImages,
    options: ReadOptions,
    meanings: Mapping[float | str, int],
    findings: ValidationReport,
) -> tuple[list[_Table], list[TableRows]]:
    """Return the tables of images, and the roles and images of these tables.

    Each table with ambiguous roles is reported as a separate error. A table without images, such as a list of the
    classes, is skipped with a warning if it is not named after a split and other tables contain images.
    """
    rows, others = [], {}
    for table in tables:
        try:
            rows.append(_rows(table, images, options, meanings, findings))
        except DataError as error:
            if len(tables) == 1:
                raise
            if isinstance(error, NoImageColumnError) and table.source.split is None:
                others[table.source.path] = str(error)
            else:
                findings.errors.append(str(error))
    if not rows:
        findings.errors.extend(others.values())
        return list(tables), []
    for file in others:
        findings.warn("tables without an image column were not used", str(file))
    return [table for table in tables if table.source.path not in others], rows


def _rows(
    table: _Table,
    images: TableImages,
    options: ReadOptions,
    meanings: Mapping[float | str, int],
    findings: ValidationReport,
) -> TableRows:
    """Return the column roles of a table, and the image of each row."""
    texts = table.texts
    if table.image_column is not None:
        options = replace(options, image_column=table.image_column)
    roles = RoleFinder(texts, options, meanings, images.exists, findings).roles()
    names: Sequence[str] = texts.column(roles.image)
    if table.image_column is None:  # file names, not images stored in the table
        names = images.names(texts, roles.image, table.source.split)
    return TableRows(texts, roles, names, constant(WHOLE, len(names)))


def _splits_of_files(
    rows: Sequence[TableRows], tables: Sequence[_Table], options: ReadOptions, findings: ValidationReport
) -> list[TextColumn]:
    """Return the split of each row in each file: one split per file, named after the file or its folder."""
    for read in rows:
        if read.roles.split is not None:
            name = read.table.columns[read.roles.split]
            raise DataError(
                f"{read.table.path}: the table has a column '{name}', but each file in this folder is a split; "
                f"specify one file instead of the folder, or use --ignore-columns '{name}'"
            )
    own = [table.source.split or table.source.path.stem for table in tables]
    places = {name: str(table.source.path) for name, table in zip(own, tables, strict=True)}
    names = resolve_names(places, options.split_names, findings)
    return [constant(names[name], len(read.images)) for name, read in zip(own, rows, strict=True)]


def _splits_of_rows(read: TableRows, options: ReadOptions, findings: ValidationReport) -> list[TextColumn]:
    """Return the split of each row in the only file, from its split column."""
    column = read.roles.split
    if column is None:
        resolve_names({}, options.split_names, findings)
        return [constant(WHOLE, len(read.images))]
    cells = read.table.column(column)
    places = {cell: read.table.where(row, column) for cell, row in cells.first_rows().items()}
    return [cells.renamed(resolve_names(places, options.split_names, findings, one_column=True))]


def _samples(
    rows: Sequence[TableRows],
    tables: Sequence[_Table],
    options: ReadOptions,
    meanings: Mapping[float | str, int],
    footnotes: list[str],
    findings: ValidationReport,
) -> list[Samples]:
    """Return the samples of all tables.

    Tables with a column of label names share their labels: all labels that occur in any of these tables.
    """
    named = [k for k, read in enumerate(rows) if read.roles.names is not None]
    parsed = parse_names([rows[k] for k in named], options, findings)
    cells = dict(zip(named, parsed, strict=True))
    labels = _schema_labels(rows, tables) or labels_of(cells.values())
    if cells and not labels:
        raise DataError(
            f"{rows[0].table.path}: the label column contains no labels; choose a different column with --label-column"
        )
    _warn_spelling(labels, findings)
    joined = joined_name(labels) if cells and options.separator is None else None
    if joined:
        findings.warn(JOINED, f"{joined[0]} (set --separator '{joined[1]}')")
    samples = []
    for k, read in enumerate(rows):
        if k not in cells:
            samples.append(wide_samples(read, meanings, findings))
            continue
        long = is_long(read, cells[k])
        footnotes.append(form_note(read, cells[k], long))
        if long:
            samples.append(long_samples(read, cells[k], labels, meanings, findings))
        else:
            samples.append(listed_samples(read, cells[k], labels, options, findings))
    return samples


def _schema_labels(rows: Sequence[TableRows], tables: Sequence[_Table]) -> tuple[str, ...]:
    """Return the class names of the label column from the schema of a Parquet file."""
    for read, table in zip(rows, tables, strict=True):
        if table.parquet is not None and read.roles.names is not None:
            names = table.parquet.class_names.get(read.table.columns[read.roles.names])
            if names:
                return tuple(names)
    return ()


def _warn_spelling(labels: Sequence[str], findings: ValidationReport) -> None:
    folded: dict[str, str] = {}
    for label in labels:
        other = folded.setdefault(label.casefold(), label)
        if other != label:
            findings.warn("label names that differ only in case were kept as separate labels", f"{other} and {label}")


def _check_minus_one(tables: Sequence[Samples], options: ReadOptions, findings: ValidationReport) -> None:
    """Report tables in which the meaning of -1 or 0 is ambiguous."""
    given = {cell_key(text) for text in (options.negative, options.unknown) if text is not None}
    held = {value for table in tables for value in table.values}
    file = tables[0].table.path
    if -1.0 in held - given and held & {1.0, "true"} and not held & {0.0, "false"}:
        findings.error(
            f"{file}",
            "the table contains 1 and -1 but no 0, so -1 may mean negative or unknown; "
            "use --negative -1 or --unknown -1",
        )
    if options.negative is not None and 0.0 in held and 0.0 not in given:
        findings.warn(
            "0 was also read as negative, in addition to the value of --negative",
            f"{file} (use --unknown 0 to make 0 unknown)",
        )


def _manifests(samples: Samples, name: str, root: Path) -> list[Manifest]:
    """Return one manifest per split."""
    splits = list(samples.splits.first_rows())
    whole = Manifest.of_sparse(name, splits[0], root, samples.labels, Texts.of(samples.images), samples.targets)
    if len(splits) == 1:
        return [whole]
    number = {split: k for k, split in enumerate(splits)}
    numbers = np.fromiter(map(number.__getitem__, samples.splits), np.int32, len(whole))
    return [whole.subset(np.flatnonzero(numbers == k), split) for k, split in enumerate(splits)]


def _joined(manifests: Sequence[Manifest], findings: ValidationReport) -> list[Manifest]:
    """Return one manifest per split, from one or more tables.

    An image in two tables of a split is an error.
    """
    by_split: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        by_split.setdefault(manifest.split, []).append(manifest)
    joined = []
    for split, parts in by_split.items():
        if len(parts) == 1:
            joined.append(parts[0])
            continue
        labels = parts[0].labels
        images = joined_texts([part.images for part in parts])
        for image in repeated(images):
            findings.error(f"split '{split}'", f"image '{image}' is in two tables; remove it from one of them")
        targets = joined_targets([part.reordered(labels).sparse_targets for part in parts])
        joined.append(Manifest.of_sparse(parts[0].name, split, parts[0].root, labels, images, targets))
    return joined


def _packed_names(rows: Sequence[TableRows], tables: Sequence[_Table]) -> list[TableRows]:
    """Return the rows with the file names of images that are stored inside Parquet files.

    The files are in one folder per split.
    """
    counts: dict[str, int] = {}
    for read in rows:
        counts[read.splits[0]] = counts.get(read.splits[0], 0) + 1
    named = []
    for read, table in zip(rows, tables, strict=True):
        if table.image_column is None:
            raise DataError(
                f"{table.source.path}: the table contains no images, but other tables in the folder do; remove this "
                "table"
            )
        folder = _image_folder(read.splits[0], table.source.path, counts[read.splits[0]])
        named.append(replace(read, images=[f"{folder}/{name}" for name in read.images]))
    return named


def _image_folder(split: str, file: Path, files: int) -> str:
    """Return the image folder of a file.

    The folder is separate for each file of a split because image names may repeat.
    """
    if files == 1:
        return split
    return f"{split}/{file.stem}"


def _unpacker(rows: Sequence[TableRows], tables: Sequence[_Table]) -> Callable[[Path], None]:
    """Return a function that writes the images of Parquet files below a folder."""
    folders = [str(Path(read.images[0]).parent) for read in rows]

    def unpack(target: Path) -> None:
        for folder, table in zip(folders, tables, strict=True):
            if table.parquet is not None:
                table.parquet.write_images(target / folder)

    return unpack
