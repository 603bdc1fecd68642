"""Write data frames to CSV, Excel and Parquet files.

All spreadsheet files are written by this module.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlrec.utils.errors import UsageError, escaped
from mlrec.utils.files import atomic_write, check_ending, write_text

if TYPE_CHECKING:
    from pandas import DataFrame

ENDINGS = {".csv": "csv", ".xlsx": "xlsx", ".parquet": "parquet"}
EXTRA = "pip install 'mlrec[tables]'"
_PACKAGES = {".xlsx": ("Excel", "openpyxl"), ".parquet": ("Parquet", "pyarrow")}
_NOT_IN_SHEET_NAMES = re.compile(r"[\[\]:*?/\\]")
LONGEST_SHEET_NAME = 31  # Excel's limit


def check_package(path: Path) -> None:
    """Check that the package required to write files with this extension is installed.

    Raises:
        UsageError: The package is not installed; the message states which extra to install.
    """
    kind, package = _PACKAGES.get(path.suffix.lower(), ("", ""))
    if package and find_spec(package) is None:
        raise UsageError(f"{path}: writing {kind} files requires {package}; run {EXTRA}")


def write_frames(frames: Mapping[str, DataFrame], path: Path, *, index: bool = False) -> None:
    """Write data frames to a file; the extension determines the format.

    In a CSV file, frames are separated by an empty line. An Excel file has one sheet per frame. In a Parquet file,
    multiple frames are concatenated into a single table; the first column, `table`, contains the frame names.

    Args:
        frames: Mapping from names to data frames.
        path: File with the extension `.csv`, `.xlsx` or `.parquet`.
        index: Whether to write the index as the first column. The indices of multiple frames are not written to a
            Parquet file.

    Raises:
        UsageError: The extension is not supported, or a package from the extra `tables` is not installed.
        MlrecError: The file cannot be written.
    """
    ending = check_ending(path, ENDINGS, "--out")
    check_package(path)
    if ending == ".csv":
        write_text(path, "\n".join(csv_text(frame, index=index) for frame in frames.values()))
        return
    stream = io.BytesIO()
    if ending == ".xlsx":
        _write_excel(frames, stream, index)
    else:
        _joined(frames).to_parquet(stream, engine="pyarrow", index=index)
    with atomic_write(path, stream.getbuffer().nbytes) as file:
        file.write(stream.getvalue())


def write_csv(rows: Iterable[Sequence[Any]], path: Path) -> None:
    """Write rows to a CSV file without pandas, in the format of `csv_text`.

    None is written as an empty cell.
    """
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([_without_formula(cell) for cell in row] for row in rows)
    write_text(path, stream.getvalue())


def csv_text(frame: DataFrame, *, index: bool = False) -> str:
    """Return a frame as CSV text, with floats in full precision.

    Text that a spreadsheet would interpret as a formula is prefixed with an apostrophe.
    """
    text: str = _without_formulas(frame, index).to_csv(index=False, lineterminator="\n")
    return text


def _write_excel(frames: Mapping[str, DataFrame], stream: io.BytesIO, index: bool) -> None:
    import pandas as pd

    with pd.ExcelWriter(stream, engine="openpyxl") as writer:
        names: set[str] = set()
        for name, frame in frames.items():
            sheet = _NOT_IN_SHEET_NAMES.sub(" ", name)[:LONGEST_SHEET_NAME] or "table"
            if sheet.casefold() in names:
                sheet = f"{sheet[: LONGEST_SHEET_NAME - 4]} {len(names) + 1}"
            names.add(sheet.casefold())
            cells = _without_formulas(frame, index).map(_without_controls)
            cells.to_excel(writer, sheet_name=sheet, index=False, freeze_panes=(1, 0))


def _joined(frames: Mapping[str, DataFrame]) -> DataFrame:
    import pandas as pd

    if len(frames) == 1:
        return next(iter(frames.values()))
    named = [frame.assign(table=name)[["table", *frame.columns]] for name, frame in frames.items()]
    return pd.concat(named, ignore_index=True)


def _without_formulas(frame: DataFrame, index: bool) -> DataFrame:
    if index:
        frame = frame.reset_index()
    return frame.map(_without_formula).rename(columns=_without_formula)


def _without_formula(cell: Any) -> Any:
    """Quote text that a spreadsheet would interpret as a formula: `=1+1` becomes `'=1+1`."""
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + cell
    return cell


def _without_controls(cell: Any) -> Any:
    """Escape control characters, which an Excel file cannot contain."""
    return escaped(cell) if isinstance(cell, str) else cell
