"""What the cells of a table say: values of labels, and lists of names of labels in one cell."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.names import clean_label
from mlrec.datasets.readers.columns import cell_key
from mlrec.datasets.readers.csv_file import TextTable
from mlrec.datasets.readers.table_store import TextColumn
from mlrec.datasets.sparse_targets import CELLS, SparseTargets, joined
from mlrec.utils.errors import DataError, ValidationReport, nearest

MEANINGLESS, BLANK_CELL = 100, 101  # in place of a target
SEPARATORS = ("|", ";", ",")
BLANK = " "
LIST = "list"  # in place of a separator: the cells are lists
CHOICES = ("choices", "labels")  # keys of the JSON that Label Studio writes for several choices
# One item of a list as Python and NumPy print it: a quoted text or a bare word, then commas and blanks.
_ITEM = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,'"\[\]]+)[\s,]*""")
_BRACKETS = {"[": "]", "('": ")", '("': ")", "{'": "}", "()": ")", "set()": ")"}
# Names of labels that usually mean that there is none.
NO_LABEL_NAMES = frozenset({"no finding", "none", "no label", "nothing", "background", "normal", "n/a", "nan", "null"})


def value_targets(
    table: TextTable, columns: Sequence[int], meanings: Mapping[float | str, int], findings: ValidationReport
) -> tuple[SparseTargets, frozenset[float | str]]:
    """Targets of columns that are one label each.

    Args:
        table: the table.
        columns: positions of the C columns.
        meanings: see `columns.cell_meanings`.
        findings: receives one error per cell that has no meaning; blank cells are one error together.

    Returns:
        Targets (N, C), and all values that occur, as `cell_key` has them.
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
    """A column of values: what each of its different texts means."""

    column: TextColumn
    meaning: NDArray[np.int8]
    keys: frozenset[float | str]
    first_blank: list[int]
    blanks: int

    @classmethod
    def of(cls, column: TextColumn, meanings: Mapping[float | str, int]) -> _Values:
        """Look up the texts of a column."""
        if column.codes is None:  # hundreds of different texts, which are no values
            meaning = np.array([_meaning(text, meanings) for text in column], dtype=np.int8)
            return cls._counted(column, meaning, meaning, frozenset(map(cell_key, column)))
        meaning = np.array([_meaning(text, meanings) for text in column.texts], dtype=np.int8)
        cells = meaning
        if BLANK_CELL in meaning:  # otherwise the cells need not be looked at one by one
            cells = meaning[column.codes]
        return cls._counted(column, meaning, cells, frozenset(map(cell_key, column.texts)))

    @classmethod
    def _counted(
        cls, column: TextColumn, meaning: NDArray[np.int8], cells: NDArray[np.int8], keys: frozenset[float | str]
    ) -> _Values:
        blank = np.flatnonzero(cells == BLANK_CELL)
        return cls(column, meaning, keys, blank[:1].tolist(), len(blank))

    def targets(self, begin: int, end: int) -> NDArray[np.int8]:
        """The targets of some rows, with `MEANINGLESS` and `BLANK_CELL` where there is none."""
        codes = self.column.codes
        return self.meaning[begin:end] if codes is None else self.meaning[codes[begin:end]]


def _meaning(text: str, meanings: Mapping[float | str, int]) -> int:
    text = text.strip()
    value = meanings.get(cell_key(text))
    if value is not None:
        return value
    return MEANINGLESS if text else BLANK_CELL


def _report_value(table: TextTable, row: int, column: int, findings: ValidationReport) -> None:
    text, name = table.rows[row][column].strip(), table.columns[column]
    quoted = shlex.quote(text)
    findings.error(
        table.where(row, column),
        f"'{text}' is not 0, 1 or -1 (unknown); give --positive, --negative or --unknown {quoted}; if the column is "
        f"not a label, --ignore-columns '{name}', or --labels with the columns that are",
    )


def report_blanks(table: TextTable, first: tuple[int, int], amount: int, findings: ValidationReport) -> None:
    """Report blank cells as one error; the first is given by row and column."""
    what = "is empty"
    if amount > 1:
        what += f" (one of {amount:,} blank cells)"
    remedy = "write 0, 1 or -1 (unknown), or give --empty negative or --empty unknown"
    findings.error(table.where(*first), f"{what}; {remedy}")


@dataclass(frozen=True)
class NameCells:
    """The distinct cells of a column of names of labels, parsed.

    Attributes:
        labels: names in each distinct cell, as they are in the cell.
        separator: what separated them: a text, `LIST`, or None if no cell has several.
    """

    labels: Mapping[str, tuple[str, ...]]
    separator: str | None


def parse_name_cells(
    places: Mapping[str, str], column: str, separator: str, no_label_value: str | None, findings: ValidationReport
) -> NameCells:
    """Parse all distinct cells of a column that holds names of labels.

    Args:
        places: each distinct cell, and the place of the first, for messages.
        column: what names the column in messages.
        separator: text between two labels; an empty text means one label per cell. Lists need none.
        no_label_value: `--no-label-value`.
        findings: receives cells that cannot be parsed.
    """
    lists = [cell for cell in places if is_list(cell)]
    parsed: dict[str, tuple[str, ...]] = {}
    clean: dict[str, str] = {}
    with_others = False
    for cell, where in places.items():
        names = _parsed(cell, separator, where, findings)
        if no_label_value is not None and no_label_value.strip() in names:
            with_others = with_others or len(names) > 1
            names = [name for name in names if name != no_label_value.strip()]
        for name in names:
            if name not in clean:
                clean[name] = clean_label(name, where, findings)
        parsed[cell] = tuple(dict.fromkeys(clean[name] for name in names))
    _check_no_label(parsed, places, column, no_label_value, findings)
    if with_others:
        findings.warn("cells that have --no-label-value and labels were taken with the labels", column)
    if lists:
        return NameCells(parsed, LIST)
    if separator and any(separator in cell for cell in places):
        return NameCells(parsed, separator)
    return NameCells(parsed, None)


def detect_separator(cells: Iterable[str], column: str) -> str:
    """The character that separates labels: `|`, `;`, `,` or a blank; empty if each cell is one label.

    A blank separates only if that is clear: the parts are fewer than the cells, and one of them is a cell of its own.

    Raises:
        DataError: several of them occur, or blanks may separate labels or belong to them.

    Example:
        >>> detect_separator(["cat|dog", "cat"], "labels"), detect_separator(["red bus", "blue car"], "labels")
        ('|', '')
    """
    texts = {cell.strip() for cell in cells if cell.strip()}
    present = [sign for sign in SEPARATORS if any(sign in text for text in texts)]
    if len(present) == 1:
        return present[0]
    if present:
        both = " and ".join(f"'{sign}'" for sign in present)
        raise DataError(f"{column}: both {both} may separate labels; give --separator '{present[0]}'")
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
        f"{column}: '{example}' may be one label or several; give --separator ' ' (several) or --separator '' (one)"
    )


def is_list(cell: str) -> bool:
    """Whether a cell is a list as Python, NumPy or JSON write it."""
    text = cell.strip()
    return any(text.startswith(start) and text.endswith(end) for start, end in _BRACKETS.items()) or (
        text.startswith("{") and text.endswith("}")
    )


def _parsed(cell: str, separator: str, where: str, findings: ValidationReport) -> list[str]:
    """The names in one cell."""
    text = cell.strip()
    if not text:
        return []
    if is_list(text):
        names = _listed(text)
        if names is None:
            findings.error(where, f"'{text}' is not a list of names")
            return []
    elif separator == BLANK:
        names = text.split()
    elif separator:
        names = text.split(separator)
    else:
        names = [text]
    return [name.strip() for name in names if name.strip()]


def _listed(text: str) -> list[str] | None:
    """The names of a list as JSON, Python or NumPy write it, or None if it is none."""
    try:
        return _names_in(json.loads(text))
    except (ValueError, RecursionError):
        pass
    # Adjacent quoted texts, as NumPy prints them, would be joined by Python: the items are read one by one.
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
    """The names in parsed JSON: a list of texts or numbers, or Label Studio's choices."""
    if isinstance(value, dict):
        held = [value[key] for key in CHOICES if isinstance(value.get(key), list)]
        return _names_in(held[0]) if len(held) == 1 else None
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        return [str(value)]
    if not isinstance(value, list):
        return None
    names: list[str] = []
    for item in value:
        if isinstance(item, list):  # a list of lists is not one of names
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
    """Report a `--no-label-value` that does not occur, and a label that seems to mean that there is none."""
    if no_label_value is not None:
        texts = {cell.strip() for cell in places}
        if not any(no_label_value.strip() in text for text in texts):
            findings.error(column, f"no cell is '{no_label_value}' (--no-label-value){nearest(no_label_value, texts)}")
        return
    for names in parsed.values():
        if len(names) == 1 and names[0].casefold() in NO_LABEL_NAMES:
            findings.warn("a label that may mean no label was taken as a label; see --no-label-value", names[0])


def sign_name(separator: str) -> str:
    """A separator as it is named in messages."""
    return "blanks" if separator == BLANK else f"'{separator}'"
