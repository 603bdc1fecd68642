"""Conversion of table rows to samples with labels.

The table has one column per label, a column of label names, or one row per image and label.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN
from mlrec.datasets.manifest_storage import SparseTargets, code_type
from mlrec.datasets.readers.columns import EMPTY, Roles
from mlrec.datasets.readers.csv_file import TextTable
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.datasets.readers.table_cells import (
    LIST,
    NameCells,
    detect_separator,
    is_list,
    parse_name_cells,
    sign_name,
    value_targets,
)
from mlrec.datasets.readers.table_store import TextColumn
from mlrec.utils import ragged
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.texts import first_places, taken


@dataclass(frozen=True)
class TableRows:
    """Table with its column roles, and with the image and split of each row."""

    table: TextTable
    roles: Roles
    images: Sequence[str]
    splits: TextColumn


@dataclass(frozen=True)
class Samples:
    """Samples from one table.

    Attributes:
        table: Table that contains the samples.
        labels: Names of the C labels.
        images, splits: Image name and split of each of the N samples.
        targets: (N, C) targets in sparse form.
        values: Set of all label values that occur, as returned by `columns.cell_key`.
    """

    table: TextTable
    labels: tuple[str, ...]
    images: Sequence[str]
    splits: TextColumn
    targets: SparseTargets
    values: frozenset[float | str] = frozenset()


def wide_samples(read: TableRows, meanings: Mapping[float | str, int], findings: ValidationReport) -> Samples:
    """Return the samples of a table with one column per label; identical records are merged."""
    columns = read.roles.labels
    labels = tuple(read.table.columns[column] for column in columns)
    targets, values = value_targets(read.table, columns, meanings, findings)
    return without_repeats(Samples(read.table, labels, read.images, read.splits, targets, values), findings)


def parse_names(rows: Sequence[TableRows], options: ReadOptions, findings: ValidationReport) -> list[NameCells]:
    """Parse the label-name column of each table.

    The separator is detected from all tables together, because the cells of a single table may be ambiguous.

    Raises:
        DataError: The separator of label names is ambiguous, the cells are lists of label values without names in
            `options.labels`, or a class number has no name in `options.labels`.
    """
    places, names = [], []
    for read in rows:
        column = read.roles.names
        assert column is not None
        first_rows = read.table.column(column).first_rows()
        places.append({cell: read.table.where(row, column) for cell, row in first_rows.items()})
        names.append(f"{read.table.path}: column '{read.table.columns[column]}'")
    separator = options.separator
    if separator is None:
        plain = [k for k, cells in enumerate(places) if not any(map(is_list, cells))]
        texts = [cell for k in plain for cell in places[k] if cell.strip() != options.no_label_value]
        separator = detect_separator(texts, names[plain[0]]) if plain else ""
    parsed = [
        parse_name_cells(cells, name, separator, options.no_label_value, options.labels, findings)
        for cells, name in zip(places, names, strict=True)
    ]
    return _named_numbers(parsed, options.labels, names[0], findings) if parsed else []


def _named_numbers(
    parsed: Sequence[NameCells], labels: Sequence[str] | None, column: str, findings: ValidationReport
) -> list[NameCells]:
    """Replace class numbers with the names in `--labels`, in order, starting from number 0.

    If number 0 does not occur, a warning is issued, because the numbers may start from 1.

    Raises:
        DataError: A class number has no name.
    """
    numbers = labels_of(parsed)
    if not labels or not numbers or not all(map(str.isdecimal, numbers)) or set(numbers) & set(labels):
        return list(parsed)
    if int(numbers[-1]) >= len(labels):
        raise DataError(
            f"{column}: class number {numbers[-1]} has no name; --labels names the numbers 0 to {len(labels) - 1}"
        )
    if int(numbers[0]) > 0:
        findings.warn(
            "class numbers were named by --labels starting from 0, but number 0 does not occur; if the numbers start "
            "from 1, add a name for number 0 in front",
            f"{column}: {numbers[0]} = {labels[int(numbers[0])]}",
        )
    named = [
        {cell: tuple(labels[int(name)] for name in found) for cell, found in cells.labels.items()} for cells in parsed
    ]
    return [replace(cells, labels=own, classes=tuple(labels)) for cells, own in zip(parsed, named, strict=True)]


def is_long(read: TableRows, cells: NameCells) -> bool:
    """Return whether a table has one row per image and label.

    The result is False if a cell has multiple labels. Otherwise, the result is True if a column states whether the
    label is present, or if at least one image has multiple rows with different labels.
    """
    column = read.roles.names
    if column is None or any(len(names) > 1 for names in cells.labels.values()):
        return False
    if read.roles.value is not None:
        return True
    names, first = read.table.column(column), first_places(read.images)  # first row of each image
    again = np.flatnonzero(first != np.arange(len(first)))
    return any(names[row] != names[earlier] for row, earlier in zip(again.tolist(), first[again].tolist(), strict=True))


def listed_samples(
    read: TableRows, cells: NameCells, labels: Sequence[str], options: ReadOptions, findings: ValidationReport
) -> Samples:
    """Return the samples of a table with one column of label names; labels not in a cell are negative."""
    column = read.roles.names
    assert column is not None
    position = {label: k for k, label in enumerate(labels)}
    codes: dict[str, list[int]] = {}
    found, lengths = array("i"), array("i")
    for row, text in enumerate(read.table.column(column)):
        if text not in codes:
            codes[text] = sorted(position[name] for name in cells.labels[text])
            if not text.strip() and options.empty is not None and EMPTY[options.empty] == UNKNOWN:
                codes[text] = [-1 - k for k in range(len(labels))]
        if not text.strip() and options.empty is None:
            findings.warn(
                "blank label cells were read as negative for every label; see --empty and --no-label-value",
                read.table.where(row),
            )
        found.extend(codes[text])
        lengths.append(len(codes[text]))
    targets = SparseTargets(
        np.array(found, dtype=code_type(len(labels))), ragged.offsets_of(np.array(lengths, np.int64)), len(labels)
    )
    return without_repeats(Samples(read.table, tuple(labels), read.images, read.splits, targets), findings)


def long_samples(
    read: TableRows,
    cells: NameCells,
    labels: Sequence[str],
    meanings: Mapping[float | str, int],
    findings: ValidationReport,
) -> Samples:
    """Return the samples of a table with one row per image and label.

    If there is no value column, or no value is negative, labels without a row for the image are negative. If negative
    values are annotated, labels without a row for the image are unknown.
    """
    names, value = read.roles.names, read.roles.value
    assert names is not None
    values = np.full(len(read.images), POSITIVE, dtype=np.int8)
    held: frozenset[float | str] = frozenset()
    if value is not None:
        columns, held = value_targets(read.table, [value], meanings, findings)
        values = columns.dense()[:, 0]
    position = {label: k for k, label in enumerate(labels)}
    named = read.table.column(names)
    sample_of: dict[tuple[str, str], int] = {}
    stated: dict[tuple[int, int], int] = {}  # first row for each sample and label
    for row, key in enumerate(zip(read.images, read.splits, strict=True)):
        sample = sample_of.setdefault(key, len(sample_of))
        for name in cells.labels[named[row]]:
            earlier = stated.setdefault((sample, position[name]), row)
            if values[earlier] != values[row]:
                lines = f"{read.table.lines[earlier]} and {read.table.lines[row]}"
                findings.error(
                    f"{read.table.path}",
                    f"{key[0]}: '{name}' has different values on {read.table.unit}s {lines}; keep only one of them",
                )
    absent = NEGATIVE
    if value is not None and np.any(values == NEGATIVE):  # negatives are annotated, so the other labels are unknown
        absent = UNKNOWN
    targets = np.full((len(sample_of), len(labels)), absent, dtype=np.int8)
    for (sample, label), row in stated.items():
        targets[sample, label] = values[row]
    images, splits = [image for image, _ in sample_of], TextColumn(tuple(split for _, split in sample_of))
    return Samples(read.table, tuple(labels), images, splits, SparseTargets.of(targets), held)


def form_note(read: TableRows, cells: NameCells, long: bool) -> str:
    """Return one line that describes how a column of label names was read."""
    assert read.roles.names is not None
    column = f"column '{read.table.columns[read.roles.names]}'"
    if long:
        value = read.roles.value
        stated = "" if value is None else f"; column '{read.table.columns[value]}' states whether the label is present"
        return f"labels were read from {column}, with one row per image and label{stated}"
    named = ""
    if cells.classes:
        named = ", and named by --labels in this order, starting from number 0"
    if cells.separator is None:
        return f"labels were read from {column}, with one label per cell{named}"
    if cells.separator == LIST:
        return f"labels were read from {column}, with one list per cell{named}"
    return f"labels were read from {column}, in which they are separated by {sign_name(cells.separator)}{named}"


def labels_of(cells: Iterable[NameCells]) -> tuple[str, ...]:
    """Return all labels that occur, sorted by name, or sorted by value if all labels are integers.

    If `--labels` names the values or class numbers in the cells, all these names are returned, in this order.
    """
    cells = list(cells)
    classes = next((parsed.classes for parsed in cells if parsed.classes), None)
    if classes:
        return classes
    names = {name for parsed in cells for found in parsed.labels.values() for name in found}
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def without_repeats(samples: Samples, findings: ValidationReport) -> Samples:
    """Merge identical records with a warning.

    An image with different labels in two records is reported as an error. Records of an image in different splits are
    not merged.
    """
    first = first_places(samples.images)
    kept = first == np.arange(len(first))
    again = np.flatnonzero(~kept)
    if not len(again):
        return samples
    table, splits = samples.table, samples.splits
    own, earliest = samples.targets.take(again), samples.targets.take(first[again])
    seen: set[tuple[int, str]] = set()
    for k, row in enumerate(again.tolist()):
        earlier, split = int(first[row]), splits[row]
        image = samples.images[row]
        if not np.array_equal(own[k], earliest[k]):
            lines = f"{table.lines[earlier]} and {table.lines[row]}"
            findings.error(
                f"{table.path}", f"{image} has different labels on {table.unit}s {lines}; keep only one of them"
            )
        elif split == splits[earlier] or (earlier, split) in seen:
            findings.warn("duplicate records were merged", f"{table.where(row)}: {samples.images[row]}")
        else:
            kept[row] = True
        seen.add((earlier, split))
    rows = np.flatnonzero(kept)
    return replace(
        samples, images=taken(samples.images, rows), splits=splits.take(rows), targets=samples.targets.take(rows)
    )
