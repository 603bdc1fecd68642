"""Parsing of table cells that contain a label value or a list of label names."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import POSITIVE, UNKNOWN
from mlrec.datasets.manifest_storage import CELLS, SparseTargets, joined
from mlrec.datasets.readers.columns import MEANINGS, cell_key
from mlrec.datasets.readers.csv_file import TextTable
from mlrec.datasets.readers.table_store import TextColumn
from mlrec.utils.errors import DataError, ValidationReport, counted, nearest
from mlrec.utils.names import clean_label

MEANINGLESS, BLANK_CELL = 100, 101  # codes in place of a target
SEPARATORS = ("|", ";", ",")
BLANK = " "
LIST = "list"  # in place of a separator if the cells are lists
# JSON keys of label names: Label Studio's multiple choices, and Hugging Face's objects.
CHOICES = ("choices", "labels", "category", "categories")
# One item of a list as Python and NumPy print it: a quoted text or a bare word, then commas and blanks.
_ITEM = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,'"\[\]]+)[\s,]*""")
_BRACKETS = {"[": "]", "('": ")", '("': ")", "{'": "}", "()": ")", "set()": ")"}
# Values that other programs write for a blank cell; `cell_key` recognizes NaN.
MISSING = frozenset({"na", "n/a", "<na>", "null", "none"})
# Label names that usually mean that there is no label.
NO_LABEL_NAMES = frozenset({"no finding", "none", "no label", "nothing", "background", "normal", "n/a", "nan", "null"})


def value_targets(
    table: TextTable, columns: Sequence[int], meanings: Mapping[float | str, int], findings: ValidationReport
) -> tuple[SparseTargets, frozenset[float | str]]:
    """Parse label columns; each column contains the values of one label.

    Args:
        table: Table that contains the columns.
        columns: Positions of the C columns.
        meanings: Target for each cell value; see `columns.cell_meanings`.
        findings: Report that receives one error for each invalid cell, and a single error for all blank cells.

    Returns:
        The (N, C) targets in sparse form, and the set of all cell values that occur, as returned by `cell_key`.
    """
    read = [_Values.of(table.column(column), meanings) for column in columns]
    parts = []
    step = max(CELLS // max(len(columns), 1), 1)
    for begin in range(0, len(table.rows), step):
        block = np.empty((min(step, len(table.rows) - begin), len(read)), np.int8)
        for k, values in enumerate(read):
            block[:, k] = values.targets(begin, begin + step)
        for row, k in np.argwhere(block == MEANINGLESS).tolist():
            _report_value(table, begin + row, columns[k], findings)
        parts.append(SparseTargets.of(block))
    blank = [(row, column) for values, column in zip(read, columns, strict=True) for row in values.first_blank]
    if blank:
        report_blanks(table, min(blank), sum(values.blanks for values in read), findings)
    return joined(parts), frozenset(key for values in read for key in values.keys)


@dataclass(frozen=True)
class _Values:
    """A value column, with the meaning of each distinct string."""

    column: TextColumn
    meaning: NDArray[np.int8]
    keys: frozenset[float | str]
    first_blank: list[int]
    blanks: int

    @classmethod
    def of(cls, column: TextColumn, meanings: Mapping[float | str, int]) -> _Values:
        """Look up the meanings of the strings in a column."""
        if column.codes is None:  # hundreds of distinct strings are not label values
            meaning = np.array([_meaning(text, meanings) for text in column], dtype=np.int8)
            return cls._counted(column, meaning, meaning, frozenset(map(cell_key, column)))
        meaning = np.array([_meaning(text, meanings) for text in column.texts], dtype=np.int8)
        cells = meaning
        if BLANK_CELL in meaning:  # otherwise the cells need not be checked one by one
            cells = meaning[column.codes]
        return cls._counted(column, meaning, cells, frozenset(map(cell_key, column.texts)))

    @classmethod
    def _counted(
        cls, column: TextColumn, meaning: NDArray[np.int8], cells: NDArray[np.int8], keys: frozenset[float | str]
    ) -> _Values:
        blank = np.flatnonzero(cells == BLANK_CELL)
        return cls(column, meaning, keys, blank[:1].tolist(), len(blank))

    def targets(self, begin: int, end: int) -> NDArray[np.int8]:
        """Return the targets of a range of rows.

        Cells without a target have the values `MEANINGLESS` and `BLANK_CELL`.
        """
        codes = self.column.codes
        return self.meaning[begin:end] if codes is None else self.meaning[codes[begin:end]]


def _meaning(text: str, meanings: Mapping[float | str, int]) -> int:
    key = cell_key(text)
    if key in MISSING and key not in meanings:
        key = ""
    value = meanings.get(key)
    if value is not None:
        return value
    return BLANK_CELL if key == "" else MEANINGLESS


def _report_value(table: TextTable, row: int, column: int, findings: ValidationReport) -> None:
    text, name = table.rows[row][column].strip(), table.columns[column]
    quoted = shlex.quote(text)
    class_numbers = f"; if it contains class numbers, use --label-column '{name}'" if text.isdecimal() else ""
    findings.error(
        table.where(row, column),
        f"'{text}' is not 0, 1 or -1 (unknown); set its meaning with --positive, --negative or --unknown {quoted}. "
        f"If the column is not a label, use --ignore-columns '{name}', or list the label columns with --labels"
        f"{class_numbers}",
    )


def report_blanks(table: TextTable, first: tuple[int, int], amount: int, findings: ValidationReport) -> None:
    """Report all blank cells as one error; the message states the position of the first blank cell."""
    text = table.rows[first[0]][first[1]].strip()
    what = f"'{text}' means that the cell is empty" if text else "the cell is empty"
    if amount > 1:
        what += f" (one of {amount:,} blank cells)"
    remedy = "write 0, 1 or -1 (unknown), or use --empty negative or --empty unknown"
    findings.error(table.where(*first), f"{what}; {remedy}")


@dataclass(frozen=True)
class NameCells:
    """Label names in the distinct cells of a column.

    Attributes:
        labels: Mapping from each distinct cell, as written, to its normalized label names without duplicates.
        separator: Separator of the names: a string, `LIST` if the cells are lists, or None if no cell has multiple
            names.
        classes: All labels in order if `--labels` names the values or the class numbers in the cells, otherwise empty.
    """

    labels: Mapping[str, tuple[str, ...]]
    separator: str | None
    classes: tuple[str, ...] = ()


def parse_name_cells(
    places: Mapping[str, str],
    column: str,
    separator: str,
    no_label_value: str | None,
    labels: Sequence[str] | None,
    findings: ValidationReport,
) -> NameCells:
    """Parse all distinct cells in a column of label names.

    Args:
        places: Mapping from each distinct cell to its first position, which is used in messages.
        column: Name of the column in messages.
        separator: Text between two labels; an empty string means one label per cell. Lists do not need a separator.
        no_label_value: Value of `--no-label-value`.
        labels: Value of `--labels`, which names the values if cells contain one value per label, such as `[1, 0, 1]`.
        findings: Report that receives one error for each cell that cannot be parsed, and an error if `no_label_value`
            does not occur.

    Raises:
        DataError: The cells contain one value per label, and `labels` does not name the values, or a value is unknown.
    """
    lists = [cell for cell in places if is_list(cell)]
    parsed: dict[str, tuple[str, ...]] = {}
    clean: dict[str, str] = {}
    with_others = False
    classes: tuple[str, ...] = ()
    written = {cell: _parsed(cell, separator, where, findings) for cell, where in places.items()}
    if _are_values([names for names in written.values() if names]):
        written = _named_values(written, column, labels)
        classes = tuple(labels or ())
    for cell, where in places.items():
        names = written[cell]
        if no_label_value is not None and no_label_value.strip() in names:
            with_others = with_others or len(names) > 1
            names = [name for name in names if name != no_label_value.strip()]
        for name in names:
            if name not in clean:
                clean[name] = clean_label(name, where, findings)
        parsed[cell] = tuple(dict.fromkeys(clean[name] for name in names))
    _check_no_label(parsed, places, column, no_label_value, findings)
    if with_others:
        findings.warn("some cells contain both labels and the value of --no-label-value; the labels were kept", column)
    if lists:
        return NameCells(parsed, LIST, classes)
    if separator and any(separator in cell for cell in places):
        return NameCells(parsed, separator, classes)
    return NameCells(parsed, None)


def _are_values(cells: Sequence[Sequence[str]]) -> bool:
    """Return whether the cells list label values, not names.

    Cells list values if all have the same length, contain only values such as 0 and 1, and are not all sorted lists of
    distinct values.
    """
    if len({len(values) for values in cells}) != 1 or all(sorted(set(values)) == list(values) for values in cells):
        return False
    return all(cell_key(value) in MEANINGS for values in cells for value in values)


def _named_values(
    written: Mapping[str, Sequence[str]], column: str, labels: Sequence[str] | None
) -> dict[str, list[str]]:
    """Return the names of the positive labels in cells that contain one value per label.

    Raises:
        DataError: `labels` is not set or has another number of labels, or a value is unknown.
    """
    example, values = next((cell, values) for cell, values in written.items() if values)
    if labels is None or len(labels) != len(values):
        raise DataError(
            f"{column}: each cell contains one value per label, such as {example}; name the "
            f"{counted(len(values), 'label')} in this order with --labels A,B,..."
        )
    meanings = {cell: [MEANINGS[cell_key(value)] for value in values] for cell, values in written.items()}
    if any(UNKNOWN in values for values in meanings.values()):
        raise DataError(f"{column}: lists with unknown values (-1) are not supported; write one column per label")
    return {
        cell: [label for label, value in zip(labels, values, strict=False) if value == POSITIVE]
        for cell, values in meanings.items()
    }


def detect_separator(cells: Iterable[str], column: str) -> str:
    """Return the label separator: `|`, `;`, `,` or a space; empty if each cell is one label.

    A space is the separator only if, after splitting, there are fewer distinct parts than distinct cells, and at least
    one part is also a whole cell.

    Raises:
        DataError: Multiple separators occur, or it is unclear whether spaces separate labels.

    Example:
        >>> detect_separator(["cat|dog", "cat"], "labels"), detect_separator(["red bus", "blue car"], "labels")
        ('|', '')
    """
    texts = {cell.strip() for cell in cells if cell.strip()}
    present = [sign for sign in SEPARATORS if any(sign in text for text in texts)]
    if len(present) == 1:
        return present[0]
    if present:
        signs = " and ".join(f"'{sign}'" for sign in present)
        raise DataError(
            f"{column}: the label separator is ambiguous (the cells contain {signs}); set it, for example with "
            f"--separator '{present[0]}'"
        )
    if not any(BLANK in text for text in texts):
        return ""
    parts = {part for text in texts for part in text.split()}
    alone = any(part in texts for part in parts)
    if alone and len(parts) < len(texts):
        return BLANK
    if not alone and len(parts) > len(texts):
        return ""
    example = next(text for text in sorted(texts) if BLANK in text)
    raise DataError(
        f"{column}: '{example}' may be one label or multiple labels; use --separator ' ' (multiple labels) or "
        "--separator '' (one label)"
    )


def is_list(cell: str) -> bool:
    """Return whether a cell is a list in the notation of Python, NumPy or JSON."""
    text = cell.strip()
    return any(text.startswith(start) and text.endswith(end) for start, end in _BRACKETS.items()) or (
        text.startswith("{") and text.endswith("}")
    )


def _parsed(cell: str, separator: str, where: str, findings: ValidationReport) -> list[str]:
    """Return the names in one cell."""
    text = cell.strip()
    if not text:
        return []
    if is_list(text):
        names = _listed(text)
        if names is None:
            findings.error(where, f"'{text}' is not a valid list of names; correct the cell")
            return []
    elif separator == BLANK:
        names = text.split()
    elif separator:
        names = text.split(separator)
    else:
        names = [text]
    return [name.strip() for name in names if name.strip()]


def _listed(text: str) -> list[str] | None:
    """Return the names in a list in the notation of JSON, Python or NumPy, or None for other text."""
    try:
        return _names_in(json.loads(text))
    except (ValueError, RecursionError):
        pass
    # Python would join adjacent quoted strings, as printed by NumPy, so the items are read one by one.
    inner = text.removeprefix("set")[1:-1].strip()
    names, place = [], 0
    while place < len(inner):
        item = _ITEM.match(inner, place)
        if item is None:
            return None
        token = item[1]
        if token[0] in "'\"":
            token = str(ast.literal_eval(token))
        names.append(token)
        place = item.end()
    return names


def _names_in(value: object) -> list[str] | None:
    """Return the names in parsed JSON: a list of strings or numbers, or an object that contains one."""
    if isinstance(value, dict):
        held = [value[key] for key in CHOICES if isinstance(value.get(key), list)]
        return _names_in(held[0]) if len(held) == 1 else None
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        return [str(value)]
    if not isinstance(value, list):
        return None
    names: list[str] = []
    for item in value:
        if isinstance(item, list):  # a list of lists is not a list of names
            return None
        inner = _names_in(item)
        if inner is None:
            return None
        names += inner
    return names


def _check_no_label(
    parsed: Mapping[str, Sequence[str]],
    places: Mapping[str, str],
    column: str,
    no_label_value: str | None,
    findings: ValidationReport,
) -> None:
    """Report a `--no-label-value` that does not occur, and a label that seems to mean "no label"."""
    if no_label_value is not None:
        texts = {cell.strip() for cell in places}
        if not any(no_label_value.strip() in text for text in texts):
            findings.error(
                column,
                f"no cell has the value '{no_label_value}' (--no-label-value)"
                f"{nearest(no_label_value, texts) or '; correct the value'}",
            )
        return
    for names in parsed.values():
        if len(names) == 1 and names[0].casefold() in NO_LABEL_NAMES:
            findings.warn("a name that may mean 'no label' was used as a label; see --no-label-value", names[0])


def sign_name(separator: str) -> str:
    """Return the name of a separator for messages."""
    return "blanks" if separator == BLANK else f"'{separator}'"
