"""CSV files of strangers, checked before anyone reads a cell: encoding, delimiter, header, shape, line numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from mlrec.datasets.manifest import clean_label, duplicates_in
from mlrec.utils.errors import DataError, MlrecError, ValidationReport, printable
from mlrec.utils.files import read_text

DELIMITERS = {";": "';'", "\t": "a tab", "|": "'|'"}
KEY_NAMES = (
    "filename",
    "file",
    "image",
    "path",
    "name",
    "id",
    "sample_id",
)  # of a first column, where labels are numbers


@dataclass(frozen=True)
class CsvFile:
    """A rectangular table of texts.

    Attributes:
        path: where it was read.
        columns: names of the header row: no blanks around them, Unicode form NFC, unique.
        rows: the cells of each record, as many as there are columns, as they stand in the file.
        lines: the line of the file on which each record begins; the header is line 1.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[list[str], ...]
    lines: tuple[int, ...]

    def where(self, row: int, column: int | None = None) -> str:
        """`labels.csv: line 4, column 'cat'`: how a message names a record or a cell."""
        record = f"{self.path}: line {self.lines[row]}"
        return record if column is None else f"{record}, column '{printable(self.columns[column])}'"


def read_csv(
    path: Path,
    findings: ValidationReport,
    kind: type[MlrecError] = DataError,
    *,
    drop_index: bool = False,
    leading: tuple[str, ...] = (),
) -> CsvFile:
    """Read a comma-separated file: UTF-8 with or without byte order mark, any line ends, blank lines left out.

    A record with too few or too many cells is an error in `findings` and is left out. With `drop_index` a column
    without a name that numbers the records, the index that pandas writes, is left out with a warning. If the header
    starts with the columns `leading`, a later column may have one of their names.

    Raises:
        MlrecError: (of `kind`) what makes the whole file unreadable: not UTF-8, a NUL byte, an unclosed quotation mark,
            a cell over 128 KiB, another delimiter than the comma, no header row, no record.
    """
    shown = printable(path)
    text = read_text(path, kind)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise kind(f"{shown}: line {line}: holds a NUL byte, so it is no text; save it as CSV again")
    records = _records(text, path, kind)
    header_line, header = next(records, (1, []))
    if not header:
        raise kind(f"{shown}: empty; the first line must name the columns: filename,label,...")
    _check_header(header, shown, kind)
    if drop_index:
        header, records = _without_index(header, list(records), path, findings)
    columns = tuple(
        clean_label(name, f"{path}: line {header_line}, column {k}", findings) for k, name in enumerate(header, 1)
    )
    first = len(leading) if columns[: len(leading)] == leading else 0
    for name in duplicates_in(columns[first:]):
        findings.error(f"{path}", f"column '{printable(name)}' stands twice; keep one")
    rows, lines = [], []
    for line, cells in records:
        if len(cells) != len(columns):
            findings.error(
                f"{path}: line {line}", f"{len(cells)} fields, expected {len(columns)}{_comma_hint(cells, columns)}"
            )
            continue
        rows.append(cells)
        lines.append(line)
    if not rows and not findings.errors:
        raise kind(f"{shown}: a header and no records; it needs one line for each sample")
    return CsvFile(Path(path), columns, tuple(rows), tuple(lines))


def is_number(text: str) -> bool:
    """Whether `text` reads as a number, `nan` and infinities among them."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _records(text: str, path: Path, kind: type[MlrecError]) -> Iterator[tuple[int, list[str]]]:
    """Records with the line each begins on; lines without any text are left out."""
    reader = csv.reader(io.StringIO(text), strict=True)
    begun = 1
    try:
        for cells in reader:
            if cells and (len(cells) > 1 or cells[0].strip()):
                yield begun, cells
            begun = reader.line_num + 1
    except csv.Error as error:
        raise kind(f"{printable(path)}: line {begun}: {error}; check the quotation marks") from error


def _without_index(
    header: list[str], records: list[tuple[int, list[str]]], path: Path, findings: ValidationReport
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The table without its first column that has no name, if that numbers the records."""
    index = next((k for k, name in enumerate(header) if _is_unnamed(name)), None)
    if index is None or not _counts([cells[index] for _, cells in records if index < len(cells)]):
        return header, iter(records)
    findings.warn("a column without a name that numbers the records was left out", f"{path}: column {index + 1}")
    rest = [(line, cells[:index] + cells[index + 1 :]) for line, cells in records]
    return header[:index] + header[index + 1 :], iter(rest)


def _is_unnamed(name: str) -> bool:
    """Whether pandas wrote the column as an index, or read such a column and wrote it again."""
    return not name.strip() or name.startswith("Unnamed: ")


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells are 0, 1, 2, ... or, as in a shuffled table, three or more distinct whole numbers."""
    texts = [cell.strip() for cell in cells]
    if all(text == str(number) for text, number in zip(texts, count(), strict=False)):
        return True
    return len(texts) > 2 and len(set(texts)) == len(texts) and all(text.isdecimal() for text in texts)


def _check_header(header: Sequence[str], shown: str, kind: type[MlrecError]) -> None:
    if len(header) == 1:
        for sign, name in DELIMITERS.items():
            if sign in header[0]:
                raise kind(f"{shown}: the delimiter seems to be {name}, expected a comma; save it with commas")
        raise kind(f"{shown}: one column, '{printable(header[0])}'; expected filename,label,... separated by commas")
    if header[0].strip().casefold() not in KEY_NAMES and all(is_number(cell) for cell in header[1:]):
        raise kind(f"{shown}: the first line holds data; put a header line before it: filename,label,...")


def _comma_hint(cells: Sequence[str], columns: Sequence[str]) -> str:
    """Twice the cells, nearly: numbers written `0,5`."""
    if len(cells) >= 2 * len(columns) - 1 and all(is_number(cell) for cell in cells[-2:]):
        return "; are the decimals written with a comma? write 0.5"
    return "; check the commas of this line"
