"""Reader for tables: delimited text, JSON Lines, JSON, Excel or Parquet.

Each cell is read as a string. Cells of other types are converted to strings. A list becomes JSON, a missing value
becomes an empty string, and a boolean becomes `True` or `False`. Cells have the same meaning in all formats.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mlrec.datasets.readers.csv_file import TextTable, check_header, checked_table
from mlrec.datasets.readers.table_dialect import read_delimited
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.files import check_regular, read_text

EXCEL = (".xlsx", ".xlsm")
PARQUET = (".parquet", ".pq")
JSON_LINES = (".jsonl", ".ndjson")
JSON = (".json",)  # an array of objects
DELIMITED = (".csv", ".tsv")
ENDINGS = (*DELIMITED, *PARQUET, *JSON_LINES, *EXCEL, *JSON)
EXTRA = "pip install 'mlrec[tables]'"


def read_table(path: Path, findings: ValidationReport) -> TextTable:
    """Read a table; the file extension determines the format (default: delimited text).

    Raises:
        DataError: The file is not a valid table, or a package for its format is not installed.
    """
    check_regular(path)
    return _reader(path)(path, findings)


def _reader(path: Path) -> Callable[[Path, ValidationReport], TextTable]:
    ending = path.suffix.lower()
    if ending in EXCEL:
        return _read_excel
    if ending in PARQUET:
        return _read_parquet
    if ending in JSON_LINES:
        return _read_json_lines
    if ending in JSON:
        return _read_json_records
    return read_delimited


def cell_text(value: Any) -> str:
    """Convert a cell of any type to a string.

    Example:
        >>> [cell_text(value) for value in (None, float("nan"), 1.0, True, ["a", 2])]
        ['', '', '1.0', 'True', '["a", 2]']
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _read_json_lines(path: Path, findings: ValidationReport) -> TextTable:
    """Read one JSON object per line; its keys are the columns, and a missing key is a blank cell."""
    objects: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {number}: {error}; expected one JSON object per line") from error
        if not isinstance(value, dict):
            raise DataError(f'{path}: line {number}: the line is not a JSON object; expected {{"file_name": ...}}')
        objects.append((number, value))
    columns = list(dict.fromkeys(key for _, value in objects for key in value))
    check_header(columns, path)
    records = ((number, [cell_text(value.get(key)) for key in columns]) for number, value in objects)
    return checked_table((1, columns), records, path, findings)


def _read_json_records(path: Path, findings: ValidationReport) -> TextTable:
    """Read a JSON array of objects, one per image, or an object that maps image names to labels."""
    try:
        value = json.loads(read_text(path), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}; expected a JSON array with one object per image") from error
    if isinstance(value, dict):
        value = [{"filename": name, "labels": labels} for name, labels in value.items()]
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise DataError(f'{path}: expected a JSON array of objects, [{{"file_name": ...}}, ...]')
    columns = list(dict.fromkeys(key for record in value for key in record))
    records = ([cell_text(record.get(key)) for key in columns] for record in value)
    return table_of_texts(columns, records, path, findings)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _read_excel(path: Path, findings: ValidationReport) -> TextTable:
    """Read the first sheet of an Excel file; other sheets cause a warning."""
    import pandas as pd

    try:
        # The header is read as a row, because pandas renames columns with equal names.
        sheets = pd.read_excel(
            path, sheet_name=None, header=None, dtype=object, keep_default_na=False, engine="openpyxl"
        )
    except ImportError as error:
        raise needs_extra(path, "Excel files", error) from error
    except Exception as error:  # openpyxl, zipfile and XML errors of a damaged file
        raise DataError(
            f"{path}: the file cannot be read as an Excel file ({error}); save it again as .xlsx"
        ) from error
    first, *others = sheets
    for name in others:
        if not sheets[name].empty:
            findings.warn("only the first sheet of an Excel file was read", f"{path}: sheet {name} was skipped")
    records = [
        (number, [cell_text(value) for value in cells]) for number, cells in enumerate(sheets[first].to_numpy(), 1)
    ]
    records = [(number, cells) for number, cells in records if any(cell.strip() for cell in cells)]
    if not records:
        raise DataError(f"{path}: the first sheet is empty; move the table to the first sheet")
    check_header(records[0][1], path)
    return checked_table(records[0], records[1:], path, findings, drop_index=True, unit="row")


def _read_parquet(path: Path, findings: ValidationReport) -> TextTable:
    from mlrec.datasets.readers.table_parquet import ParquetTable

    columns, records = ParquetTable(path).texts()
    return table_of_texts(columns, records, path, findings)


def table_of_texts(
    columns: list[str], records: Iterable[list[str]], path: Path, findings: ValidationReport
) -> TextTable:
    """Create a table from a file without text lines, such as an Excel file; rows are counted from 1."""
    check_header(columns, path)
    return checked_table((0, columns), enumerate(records, 1), path, findings, drop_index=True, unit="row")


def needs_extra(path: Path, what: str, error: ImportError) -> DataError:
    """Return the error for a package that is not installed."""
    package = error.name or "a package"
    return DataError(f"{path}: reading {what} requires {package}; install it with {EXTRA}")
