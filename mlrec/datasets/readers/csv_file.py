"""Reader for CSV files from any source; each file is checked before its cells are used.

The checks cover the encoding, delimiter, header and number of cells per record.
"""

from __future__ import annotations

import codecs
import csv
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import merge
from itertools import count
from operator import itemgetter
from pathlib import Path
from typing import IO

from mlrec.datasets.image_paths import is_image
from mlrec.datasets.readers.table_store import Rows, TextColumn, stored
from mlrec.utils.errors import DataError, MlrecError, ValidationReport
from mlrec.utils.files import open_bytes, read_text
from mlrec.utils.names import clean_label, duplicates_in

DELIMITERS = {";": "';'", "\t": "a tab", "|": "'|'"}
# Usual names of a first column. A first line with none of these names and numbers in all other columns is data.
KEY_NAMES = ("filename", "file", "image", "path", "name", "id", "sample_id")
PIECE = 2**22  # bytes checked at a time
NO_NAME = "filename"  # name of an image column whose header is blank

Record = tuple[int, list[str]]  # the line on which the record begins, and its cells


@dataclass(frozen=True)
class TextTable:
    """Table of strings, with one cell per column in each row.

    Attributes:
        path: File from which the table was read.
        columns: Unique column names from the header row, stripped and in Unicode form NFC.
        rows: Cells of each record, with one unchanged string per column.
        lines: Number of the first line of each record in the file; the header is line 1.
        unit: Unit of record numbers: "line", or "row" for files without lines.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Rows
    lines: Sequence[int]
    unit: str = "line"

    def column(self, column: int) -> TextColumn:
        """Return the cells of a column."""
        return self.rows.columns[column]

    def where(self, row: int, column: int | None = None) -> str:
        """Return the position of a record or cell for messages: `labels.csv: line 4, column 'cat'`."""
        record = f"{self.path}: {self.unit} {self.lines[row]}"
        return record if column is None else f"{record}, column '{self.columns[column]}'"


def read_csv(
    path: Path,
    findings: ValidationReport,
    kind: type[MlrecError] = DataError,
    *,
    drop_index: bool = False,
    leading: tuple[str, ...] = (),
) -> TextTable:
    """Read a comma-separated file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Line endings of any kind are accepted, and records with only blank cells are skipped. If a record has too few or too
    many cells, it is skipped, and an error is added to `findings`. With `drop_index`, an unnamed column that numbers
    the records (the pandas index) is skipped with a warning. If the header starts with the column names in `leading`,
    later columns may have the same names.

    Raises:
        MlrecError: The file is neither UTF-8 nor UTF-16, has no header row, only one column or no records, or contains
            a NUL byte, an unclosed quotation mark, a cell larger than 128 KiB, or a delimiter other than the comma. The
            class of the error is `kind`.
    """
    with table_text(path, kind) as text:
        records = split_records(text, path, kind)
        first = next(records, (1, []))
        header = first[1]
        if len(header) == 1:
            for sign, name in DELIMITERS.items():
                if sign in header[0]:
                    raise kind(f"{path}: the delimiter seems to be {name}, expected a comma; save the file with commas")
        check_header(header, path, kind)
        return checked_table(first, records, path, findings, kind, drop_index=drop_index, leading=leading)


@contextmanager
def table_text(path: Path, kind: type[MlrecError] = DataError) -> Iterator[IO[str]]:
    """Check a delimited text file in chunks, then open it.

    Large files are never loaded completely into memory.

    Raises:
        MlrecError: The file is not UTF-8 or UTF-16, or contains a NUL byte. The class of the error is `kind`.
    """
    with open_bytes(path, kind) as stream:
        encoding = encoding_of(stream.read(2))
    decoder = codecs.getincrementaldecoder(encoding)()
    with open_bytes(path, kind) as stream:
        try:
            lines = 1
            while piece := stream.read(PIECE):
                text = decoder.decode(piece)
                if "\0" in text:
                    line = lines + text.count("\n", 0, text.index("\0"))
                    raise kind(f"{path}: line {line}: a NUL byte means that the file is not text; save it as CSV again")
                lines += text.count("\n")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            if encoding == "utf-16":
                raise kind(f"{path}: not valid UTF-16; save it as UTF-8") from error
            read_text(path, kind)  # reports the position of the byte
    with path.open(encoding=encoding) as text_stream:
        yield text_stream


def encoding_of(head: bytes) -> str:
    r"""Return the encoding of a text file that starts with `head`: UTF-8, or UTF-16 as written by Excel.

    Example:
        >>> encoding_of(b"\xff\xfei\x00"), encoding_of(b"image,cat")
        ('utf-16', 'utf-8-sig')
    """
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def split_records(
    stream: Iterable[str],
    path: Path,
    kind: type[MlrecError] = DataError,
    *,
    delimiter: str = ",",
    skip_blanks: bool = False,
    first_line: int = 1,
) -> Iterator[Record]:
    """Iterate over records, each with the number of its first line.

    Records with only blank cells are skipped.

    If `skip_blanks` is set, spaces after a delimiter are ignored.
    """
    reader = csv.reader(stream, strict=True, delimiter=delimiter, skipinitialspace=skip_blanks)
    begun = first_line
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield begun, cells
            begun = reader.line_num + first_line
    except csv.Error as error:
        raise kind(f"{path}: line {begun}: {error}; check the quotation marks") from error


def checked_table(
    first: Record,
    records: Iterable[Record],
    path: Path,
    findings: ValidationReport,
    kind: type[MlrecError] = DataError,
    *,
    drop_index: bool = False,
    unit: str = "line",
    leading: tuple[str, ...] = (),
) -> TextTable:
    """Check a header and records, and create a table from them.

    In the resulting table, each record has one cell per column, and the column names are valid and unique.

    Args:
        first: Header record.
        records: Records after the header.
        path: Source file.
        findings: Report that receives errors and warnings about records with the wrong number of cells, changed names
            and duplicate names.
        kind: Class of the errors that are raised.
        drop_index: Whether to skip a pandas index, and columns that have no name and only empty cells.
        unit: See `TextTable`.
        leading: Names of the first columns; later columns may have the same names.
    """
    header_line, header = first
    lines, others = array("q"), []

    def fitting() -> Iterator[list[str]]:
        for line, cells in records:
            if len(cells) == len(header):
                lines.append(line)
                yield cells
            else:
                others.append((line, cells))

    held = stored(fitting(), len(header))
    if drop_index and any(map(_is_unnamed, header)):
        names, gone = _unnamed(header, _Cells(held, lines, others), path, findings)
        first = (header_line, [name for k, name in enumerate(names) if k not in gone])
        if others:  # a record may lack a column that is skipped
            rest = (
                (line, [cell for k, cell in enumerate(cells) if k not in gone])
                for line, cells in _merged(Rows(held), lines, others)
            )
            return checked_table(first, rest, path, findings, kind, unit=unit, leading=leading)
        header, held = first[1], [column for k, column in enumerate(held) if k not in gone]
    columns = tuple(
        clean_label(name, f"{path}: {unit} {header_line}, column {k}", findings) for k, name in enumerate(header, 1)
    )
    own = len(leading) if columns[: len(leading)] == leading else 0
    for name in duplicates_in(columns[own:]):
        findings.error(f"{path}", f"column '{name}' occurs twice; remove or rename one of them")
    for line, cells in others:
        findings.error(
            f"{path}: {unit} {line}", f"{len(cells)} fields, expected {len(columns)}{_comma_hint(cells, columns)}"
        )
    if not lines and not findings.errors:
        raise kind(f"{path}: the file has a header but no records; add one line per sample")
    return TextTable(Path(path), columns, Rows(held), lines, unit)


def _merged(rows: Rows, lines: Sequence[int], others: Sequence[Record]) -> Iterator[tuple[int, Sequence[str]]]:
    """Iterate over all records in the order of their lines, including those that do not match the header."""
    return merge(zip(lines, rows, strict=True), others, key=itemgetter(0))


def is_number(text: str) -> bool:
    """Return whether `text` is a number, including `nan` and infinities."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


class _Cells:
    """Access to the cells of each column, for all records."""

    def __init__(self, held: Sequence[TextColumn], lines: Sequence[int], others: Sequence[Record]) -> None:
        self._held, self._lines, self._others = held, lines, others

    def column(self, k: int) -> Sequence[str]:
        """Return the cells of a column, in the order of their lines."""
        others = [(line, cells[k]) for line, cells in self._others if k < len(cells)]
        if not others:
            return self._held[k]
        return [cell for _, cell in merge(zip(self._lines, self._held[k], strict=True), others, key=itemgetter(0))]


def _unnamed(
    header: Sequence[str], table: _Cells, path: Path, findings: ValidationReport
) -> tuple[list[str], set[int]]:
    """Return the names of all columns, and the unnamed columns that are skipped.

    An index, and columns without a cell, are skipped.

    Only the first column that numbers the records is an index. An unnamed column of images gets a name. Any other
    column without a name is reported as an error.
    """
    names = list(header)
    gone: set[int] = set()
    index_found = False
    for k in [k for k, name in enumerate(header) if _is_unnamed(name)]:
        cells = table.column(k)
        if not any(cell.strip() for cell in cells):
            gone.add(k)
        elif not index_found and _counts(cells):
            index_found = True
            gone.add(k)
            findings.warn("an unnamed column of row numbers was skipped", f"{path}: column {k + 1}")
        elif NO_NAME not in names and all(is_image(cell.strip()) for cell in cells if cell.strip()):
            names[k] = NO_NAME
        else:
            findings.error(
                f"{path}: column {k + 1}", "the column has no name and does not contain row numbers; add a name"
            )
            gone.add(k)
    return names, gone


def _is_unnamed(name: str) -> bool:
    """Return whether the column is a pandas index, possibly one that was read and written again."""
    return not name.strip() or name.startswith("Unnamed: ")


def _counts(cells: Sequence[str]) -> bool:
    """Return whether cells are 0, 1, 2, ... or three or more distinct integers, as in a shuffled table."""
    if all(cell.strip() == str(number) for cell, number in zip(cells, count(), strict=False)):
        return True
    texts = [cell.strip() for cell in cells]
    return len(texts) > 2 and len(set(texts)) == len(texts) and all(text.isdecimal() for text in texts)


def check_header(header: Sequence[str], path: Path, kind: type[MlrecError] = DataError) -> None:
    """Check that the first record is a header with at least two columns.

    Raises:
        MlrecError: The file is empty, has a single column, or starts with a line of data. The class of the error is
            `kind`.
    """
    if not header:
        raise kind(f"{path}: the file is empty; the first line must list the columns: filename,label,...")
    if len(header) == 1:
        raise kind(f"{path}: only one column, '{header[0]}'; expected filename,label,... separated by commas")
    numbers = header[0].strip().casefold() not in KEY_NAMES and all(is_number(cell) for cell in header[1:])
    if numbers or any(is_image(cell.strip()) for cell in header):
        raise kind(f"{path}: the first line contains data; add a header line before it: filename,label,...")


def _comma_hint(cells: Sequence[str], columns: Sequence[str]) -> str:
    """Return a hint if there are about twice as many cells as expected, as for numbers written `0,5`."""
    if len(cells) >= 2 * len(columns) - 1 and all(is_number(cell) for cell in cells[-2:]):
        return "; are decimals written with a comma? use 0.5"
    return "; check the commas in this line"
