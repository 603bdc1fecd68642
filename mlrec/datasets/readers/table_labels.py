"""The labels of one table: one column per label, a column of names, or one row per image and label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN
from mlrec.datasets.readers.columns import EMPTY, Roles
from mlrec.datasets.readers.csv_file import TextTable
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.datasets.readers.table_cells import LIST, NameCells, parse_name_cells, sign_name, value_targets
from mlrec.utils.errors import ValidationReport, printable


@dataclass(frozen=True)
class TableRows:
    """One table with its roles, and the image and the split of each row."""

    table: TextTable
    roles: Roles
    images: list[str]
    splits: list[str]


@dataclass(frozen=True)
class Samples:
    """The samples of one table.

    Attributes:
        table: the table.
        labels: C names.
        images, splits: of each of the N samples.
        rows: row of the table that each sample begins on.
        targets: (N, C) int8.
        values: values of labels that occur, see `columns.cell_key`.
    """

    table: TextTable
    labels: tuple[str, ...]
    images: list[str]
    splits: list[str]
    rows: list[int]
    targets: NDArray[np.int8]
    values: frozenset[float | str] = frozenset()


def wide_samples(read: TableRows, meanings: Mapping[float | str, int], findings: ValidationReport) -> Samples:
    """Samples of a table with one column per label; identical records are taken once."""
    columns = read.roles.labels
    labels = tuple(read.table.columns[column] for column in columns)
    targets, values = value_targets(read.table, columns, meanings, findings)
    rows = list(range(len(read.images)))
    return without_repeats(Samples(read.table, labels, read.images, read.splits, rows, targets, values), findings)


def parse_names(read: TableRows, options: ReadOptions, findings: ValidationReport) -> NameCells:
    """The names of labels in each distinct cell of the column of names.

    Raises:
        DataError: the separator is not clear.
    """
    column = read.roles.names
    assert column is not None
    places: dict[str, str] = {}
    for row, cells in enumerate(read.table.rows):
        if cells[column] not in places:
            places[cells[column]] = read.table.where(row, column)
    name = f"{printable(read.table.path)}: column '{printable(read.table.columns[column])}'"
    return parse_name_cells(places, name, options.separator, options.no_label_value, findings)


def is_long(read: TableRows, cells: NameCells) -> bool:
    """Whether a table has one row per image and label.

    That is so if a column states whether the label is present, or if no cell has several labels and an image has rows
    of different labels.
    """
    column = read.roles.names
    if column is None or any(len(names) > 1 for names in cells.labels.values()):
        return False
    if read.roles.value is not None:
        return True
    first: dict[str, str] = {}
    for image, row in zip(read.images, read.table.rows, strict=True):
        if first.setdefault(image, row[column]) != row[column]:
            return True
    return False


def listed_samples(
    read: TableRows, cells: NameCells, labels: Sequence[str], options: ReadOptions, findings: ValidationReport
) -> Samples:
    """Samples of a table with the names of the labels in one column; other labels are negative."""
    column = read.roles.names
    assert column is not None
    position = {label: k for k, label in enumerate(labels)}
    targets = np.full((len(read.images), len(labels)), NEGATIVE, dtype=np.int8)
    for row, record in enumerate(read.table.rows):
        text = record[column]
        if text.strip():
            targets[row, [position[name] for name in cells.labels[text]]] = POSITIVE
        elif options.empty is None:
            findings.warn(
                "images with a blank cell of labels are negative for every label; see --empty and --no-label-value",
                read.table.where(row),
            )
        else:
            targets[row] = EMPTY[options.empty]
    rows = list(range(len(read.images)))
    return without_repeats(Samples(read.table, tuple(labels), read.images, read.splits, rows, targets), findings)


def long_samples(
    read: TableRows,
    cells: NameCells,
    labels: Sequence[str],
    meanings: Mapping[float | str, int],
    findings: ValidationReport,
) -> Samples:
    """Samples of a table with one row per image and label.

    Without a column of values, and with one that is never negative, labels that an image has no row of are negative.
    If negatives are stated too, they are unknown: only what was verified is known.
    """
    names, value = read.roles.names, read.roles.value
    assert names is not None
    values = np.full(len(read.images), POSITIVE, dtype=np.int8)
    held: frozenset[float | str] = frozenset()
    if value is not None:
        columns, held = value_targets(read.table, [value], meanings, findings)
        values = columns[:, 0]
    position = {label: k for k, label in enumerate(labels)}
    sample_of: dict[tuple[str, str], int] = {}
    first_rows: list[int] = []
    stated: dict[tuple[int, int], int] = {}  # row of the first statement, by sample and label
    for row, key in enumerate(zip(read.images, read.splits, strict=True)):
        sample = sample_of.setdefault(key, len(sample_of))
        if sample == len(first_rows):
            first_rows.append(row)
        for name in cells.labels[read.table.rows[row][names]]:
            earlier = stated.setdefault((sample, position[name]), row)
            if values[earlier] != values[row]:
                lines = f"{read.table.lines[earlier]} and {read.table.lines[row]}"
                findings.error(
                    f"{read.table.path}",
                    f"{printable(key[0])}: '{printable(name)}' has different values on {read.table.unit}s {lines}; "
                    "keep one",
                )
    absent = UNKNOWN if value is not None and bool(np.any(values == NEGATIVE)) else NEGATIVE
    targets = np.full((len(sample_of), len(labels)), absent, dtype=np.int8)
    for (sample, label), row in stated.items():
        targets[sample, label] = values[row]
    images, splits = [image for image, _ in sample_of], [split for _, split in sample_of]
    return Samples(read.table, tuple(labels), images, splits, first_rows, targets, held)


def form_note(read: TableRows, cells: NameCells, long: bool) -> str:
    """One line on how a column of names was read."""
    assert read.roles.names is not None
    column = f"column '{printable(read.table.columns[read.roles.names])}'"
    if long:
        value = read.roles.value
        stated = "" if value is None else f", present or not by column '{printable(read.table.columns[value])}'"
        return f"one row per image and label: {column}{stated}"
    if cells.separator is None:
        return f"labels: {column}, one label per cell"
    if cells.separator == LIST:
        return f"labels: {column}, a list per cell"
    return f"labels: {column}, separated by {sign_name(cells.separator)}"


def labels_of(cells: Iterable[NameCells]) -> tuple[str, ...]:
    """All labels that occur, by name, or by value if all are whole numbers."""
    names = {name for parsed in cells for found in parsed.labels.values() for name in found}
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def without_repeats(samples: Samples, findings: ValidationReport) -> Samples:
    """Identical records once, with a warning; an image with different labels in two records is an error."""
    first: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    kept = []
    table = samples.table
    for row, (image, split) in enumerate(zip(samples.images, samples.splits, strict=True)):
        earlier = first.setdefault(image, row)
        if earlier != row and not np.array_equal(samples.targets[row], samples.targets[earlier]):
            lines = f"{table.lines[earlier]} and {table.lines[row]}"
            findings.error(
                f"{table.path}", f"{printable(image)} has different labels on {table.unit}s {lines}; keep one"
            )
        elif (image, split) in seen:
            findings.warn("identical records were taken once", f"{table.where(row)}: {image}")
        else:
            kept.append(row)
        seen.add((image, split))
    if len(kept) == len(samples.images):
        return samples
    return replace(
        samples,
        images=[samples.images[row] for row in kept],
        splits=[samples.splits[row] for row in kept],
        rows=[samples.rows[row] for row in kept],
        targets=samples.targets[kept],
    )
