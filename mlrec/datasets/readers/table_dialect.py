"""Reader for text tables with commas, semicolons, tabs or vertical bars, or aligned with spaces."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from mlrec.datasets.image_paths import is_image
from mlrec.datasets.readers.csv_file import (
    NO_NAME,
    Record,
    TextTable,
    check_header,
    checked_table,
    split_records,
    table_text,
)
from mlrec.utils.errors import ValidationReport

ALIGNED = " "  # any number of blanks
CANDIDATES = (",", ";", "\t", "|")
LINES_TRIED = 20
_SEP_LINE = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)  # Excel reads the delimiter from such a first line


@dataclass(frozen=True)
class Dialect:
    """Dialect of a delimited text file.

    Attributes:
        delimiter: One of `CANDIDATES`, `ALIGNED`, or the character in a first line such as `sep=;`.
        skip_blanks: Whether to ignore spaces after a delimiter.
        skip_line: Whether the first line is not part of the table: the number of records, as in CelebA, or the
            delimiter (`sep=;`), as in Excel.
        unnamed_key: Whether the header has no name for the first column.
    """

    delimiter: str
    skip_blanks: bool = False
    skip_line: bool = False
    unnamed_key: bool = False


def detect_dialect(text: str) -> Dialect | None:
    r"""Detect the dialect from the first lines of a table. Return None if the table has only one column.

    If the first line is `sep=;`, it specifies the delimiter. Otherwise, the delimiter must occur in the header. If the
    header contains multiple delimiters, the result is the delimiter that splits the following lines consistently. If
    the header contains no delimiter, the columns may be aligned with spaces.

    Example:
        >>> detect_dialect("filename;cat\na.jpg;1\n").delimiter
        ';'
    """
    lines = [line for line in islice(io.StringIO(text), LINES_TRIED) if line.strip()]
    if not lines:
        return None
    sep_line = _SEP_LINE.fullmatch(lines[0])
    if sep_line and len(lines) > 1:
        return Dialect(sep_line[1], skip_blanks=f"{sep_line[1]} " in lines[1], skip_line=True)
    present = [sign for sign in CANDIDATES if _width(lines[0], sign) > 1]
    alike = [sign for sign in present if len({_width(line, sign) for line in lines}) == 1]
    for sign in alike or present:
        return Dialect(sign, skip_blanks=f"{sign} " in lines[0])
    count_line = lines[0].strip().isdecimal() and len(lines) > 1
    rows = [line.split() for line in lines[count_line:]]
    widths = {len(row) for row in rows[1:]}
    if len(widths) != 1 or widths == {1}:
        return None
    missing = widths.pop() - len(rows[0])
    if missing in (0, 1):
        return Dialect(ALIGNED, skip_line=count_line, unnamed_key=missing == 1)
    return None


def read_delimited(path: Path, findings: ValidationReport) -> TextTable:
    """Read a table in any dialect; a pandas index is skipped with a warning.

    Raises:
        DataError: The file cannot be read as a table; see `csv_file.read_csv`.
    """
    with table_text(path) as text:
        dialect = detect_dialect("".join(islice(text, LINES_TRIED))) or Dialect(",")
        text.seek(0)
        if dialect.delimiter == ALIGNED:
            records = _aligned(text)
        else:
            records = split_records(text, path, delimiter=dialect.delimiter, skip_blanks=dialect.skip_blanks)
        if dialect.skip_line:
            next(records)
        header_line, header = next(records, (1, []))
        if dialect.unnamed_key:
            header = [NO_NAME, *header]
        check_header(header, path)
        return checked_table((header_line, header), records, path, findings, drop_index=True)


def _aligned(text: Iterable[str]) -> Iterator[Record]:
    for number, line in enumerate(text, 1):
        if line.strip():
            yield number, line.split()


def _width(line: str, delimiter: str) -> int:
    """Return the number of cells in one line.

    A cell that continues on the next line is cut at the end of the line.
    """
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:  # a cell beyond the size limit; the full reading reports it with its line
        return line.count(delimiter) + 1


def holds_images(text: str) -> bool:
    """Return whether a cell in the first lines of a table is the name of an image."""
    dialect = detect_dialect(text)
    if dialect is None:
        return False
    lines = [line.strip() for line in islice(io.StringIO(text), LINES_TRIED)]
    delimiter: str | None = dialect.delimiter
    if delimiter == ALIGNED:  # any number of blanks
        delimiter = None
    cells = chain.from_iterable(line.split(delimiter) for line in lines)
    return any(is_image(cell.strip(' "')) for cell in cells)
