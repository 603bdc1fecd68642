"""Delimited text of any dialect: comma, semicolon, tab, bar, or columns aligned with blanks."""

from __future__ import annotations

import csv
import io
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


@dataclass(frozen=True)
class Dialect:
    """How the lines of a table are divided.

    Attributes:
        delimiter: one of `CANDIDATES`, or `ALIGNED`.
        skip_blanks: blanks after a delimiter are no part of the cell.
        count_line: the first line states only how many records follow, as in CelebA.
        unnamed_key: the header has no name for the first column.
    """

    delimiter: str
    skip_blanks: bool = False
    count_line: bool = False
    unnamed_key: bool = False


def detect_dialect(text: str) -> Dialect | None:
    r"""The dialect of the first lines of a table, or None if they have one column only.

    The delimiter is in the header. If the header has several, the one that divides the following lines alike is used.

    Example:
        >>> detect_dialect("filename;cat\na.jpg;1\n").delimiter
        ';'
    """
    lines = [line for line in islice(io.StringIO(text), LINES_TRIED) if line.strip()]
    if not lines:
        return None
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
        return Dialect(ALIGNED, count_line=count_line, unnamed_key=missing == 1)
    return None


def read_delimited(path: Path, findings: ValidationReport) -> TextTable:
    """Read a table of any dialect; an index that pandas wrote is left out with a warning.

    Raises:
        DataError: what makes the whole file unreadable, see `csv_file.read_csv`.
    """
    with table_text(path) as text:
        dialect = detect_dialect("".join(islice(text, LINES_TRIED))) or Dialect(",")
        text.seek(0)
        if dialect.delimiter == ALIGNED:
            records = _aligned(text)
            if dialect.count_line:
                next(records)
        else:
            records = split_records(text, path, delimiter=dialect.delimiter, skip_blanks=dialect.skip_blanks)
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
    """Number of cells of one line. A cell that continues on the next line ends with its line here."""
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:  # a cell beyond the size limit; the full reading reports it with its line
        return line.count(delimiter) + 1


def holds_images(text: str) -> bool:
    """Whether some of the first lines of a table have a cell that is the name of an image."""
    dialect = detect_dialect(text)
    if dialect is None:
        return False
    lines = [line.strip() for line in islice(io.StringIO(text), LINES_TRIED)]
    delimiter: str | None = dialect.delimiter
    if delimiter == ALIGNED:  # any number of blanks
        delimiter = None
    cells = chain.from_iterable(line.split(delimiter) for line in lines)
    return any(is_image(cell.strip(' "')) for cell in cells)
