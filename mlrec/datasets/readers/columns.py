"""Which columns of a table are labels, and what a cell means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN
from mlrec.datasets.readers.csv_file import CsvFile, is_number
from mlrec.utils.errors import DataError, UsageError, ValidationReport, nearest, printable

SPLIT_COLUMN = "split"
METADATA = ("fold", "split", "id", "index", "width", "height")
FLAG, KEY = "is_", "_id"  # is_flipped, patient_id
MEANINGS: dict[float | str, int] = {1.0: POSITIVE, 0.0: NEGATIVE, -1.0: UNKNOWN, "true": POSITIVE, "false": NEGATIVE}


def cell_key(text: str) -> float | str:
    """The number that a cell holds, or its text in lower case: `1`, `1.0` and ` 1` are the same value."""
    return float(text) if is_number(text) else text.strip().casefold()


def cell_meanings(negative: str | None, unknown: str | None) -> dict[float | str, int]:
    """Target value by `cell_key`: 1, 0 and -1 (unknown), and what `--negative` and `--unknown` add or change.

    Raises:
        UsageError: the two options name the same value, or 1.
    """
    options = (("negative", negative, NEGATIVE), ("unknown", unknown, UNKNOWN))
    if negative is not None and unknown is not None and cell_key(negative) == cell_key(unknown):
        raise UsageError(f"--negative and --unknown are both '{printable(negative)}'; a value has one meaning")
    meanings = dict(MEANINGS)
    for flag, text, value in options:
        if text is None:
            continue
        if MEANINGS.get(cell_key(text)) == POSITIVE:
            raise UsageError(f"--{flag} {printable(text)}: this value means positive in every table")
        meanings[cell_key(text)] = value
    return meanings


def split_column(
    file: CsvFile, chosen: Sequence[str] | None, given: Iterable[str], findings: ValidationReport
) -> int | None:
    """The column of split names, or None. A column `split` of numbers names no splits, unless `--splits` names them.

    Args:
        file: the table; its first column names the images.
        chosen: `--labels`; a column that is a label is not a column of splits.
        given: names that `--splits` gives.
        findings: where a column of numbers is reported.
    """
    names = [k for k, name in enumerate(file.columns) if k > 0 and name.casefold() == SPLIT_COLUMN]
    if not names or file.columns[names[0]] in (chosen or ()):
        return None
    if len(names) > 1:
        raise DataError(f"{printable(file.path)}: two columns are called '{SPLIT_COLUMN}'; rename one")
    column = names[0]
    cells = {cells[column] for cells in file.rows}
    if not cells:
        return column
    named = {cell.strip().casefold() for cell in cells} & set(given)
    if named or not all(is_number(cell) or cell_key(cell) in MEANINGS for cell in cells):
        return column
    values = ", ".join(sorted(printable(cell.strip()) for cell in cells)[:3])
    example = printable(min(cells).strip())
    findings.warn(
        "a column 'split' that holds numbers was not used; --splits says which split each value is",
        f"{file.path} ({values}; --splits {example}=train,...)",
    )
    return None


def label_columns(file: CsvFile, chosen: Sequence[str] | None, findings: ValidationReport) -> list[int]:
    """The columns of labels: those of `--labels`, else all but the first and metadata.

    Columns named like metadata (fold, split, id, index, width, height, *_id, and is_* unless all are) are left out
    with a warning that names them.

    Raises:
        DataError: no such column, or none is left.
    """
    if chosen is not None:
        for name in chosen:
            if name not in file.columns[1:]:
                hint = nearest(name, file.columns[1:])
                raise DataError(f"{printable(file.path)}: no column '{printable(name)}'{hint}")
        return [file.columns.index(name) for name in chosen]
    columns = range(1, len(file.columns))
    labels = [k for k in columns if not _is_metadata(file.columns[k])]
    if any(not _is_flag(file.columns[k]) for k in labels):
        labels = [k for k in labels if not _is_flag(file.columns[k])]
    left_out = [file.columns[k] for k in columns if k not in labels and file.columns[k].casefold() != SPLIT_COLUMN]
    if not labels:
        taken = f"; --labels takes columns named like metadata ({printable(', '.join(left_out))})" if left_out else ""
        raise DataError(f"{printable(file.path)}: no column of a label; expected filename,label,...{taken}")
    if left_out:
        findings.warn("columns named like metadata are not labels; --labels takes them", ", ".join(left_out))
    return labels


def _is_metadata(name: str) -> bool:
    folded = name.casefold()
    return folded in METADATA or folded.endswith(KEY)


def _is_flag(name: str) -> bool:
    return name.casefold().startswith(FLAG)
