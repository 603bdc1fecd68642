"""Detection of column roles in a table: image names, split names, labels, or lists of labels."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlrec.datasets.image_paths import is_image
from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN
from mlrec.datasets.readers.csv_file import TextTable, is_number
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.datasets.split_names import known_split
from mlrec.utils.errors import DataError, UsageError, ValidationReport, nearest

SPLIT_COLUMN = "split"
METADATA = ("fold", "split", "id", "index", "width", "height", "imageid", "imgid")
SUBJECTS = ("image", "img", "original", "orig", "picture", "photo")  # image_width, Original Height
# Columns that Label Studio writes in addition to the image and the choice.
EXPORT_METADATA = ("annotation_id", "annotator", "created_at", "updated_at", "lead_time", "agreement")
FLAG, KEY = "is", "id"  # is_flipped, isLabelled; patient_id, Patient ID, patientId
MEANINGS: dict[float | str, int] = {1.0: POSITIVE, 0.0: NEGATIVE, -1.0: UNKNOWN, "true": POSITIVE, "false": NEGATIVE}
EMPTY = {"negative": NEGATIVE, "unknown": UNKNOWN}
_SEVERAL_NUMBERS = re.compile(r"\d+([ ,;|]+\d+)+")
_DECIMAL_COMMA = re.compile(r"\s*(-?[01]),0+\s*")  # a label value with a decimal comma
SAMPLED = 1000  # rows used to determine roles; every cell is checked when it is read
# Usual names, compared by letters and digits only: `File Name` and `file_name` are compared as `filename`.
IMAGE_NAMES = (
    *("filename", "file", "path", "filepath", "picture", "photo", "img", "imgname", "imgpath", "imgid"),
    *("image", "imageid", "imagename", "imagepath", "imageindex", "imagefile", "imagefilename"),
)
KEY_NAMES = ("name", "id", "sampleid", "key", "url", "imageurl")  # image columns if no other name matches
LABEL_NAMES = (
    *("label", "labels", "labelname", "labelnames", "findinglabels", "attributes", "tag", "tags", "choice"),
    *("class", "classes", "classname", "category", "categories"),
)
# Cells of a label column whose values are words. These words are not label names.
ANSWERS = frozenset({"yes", "no", "y", "n", "t", "f", "positive", "negative", "present", "absent", "unknown"})
SPLIT_NAMES = ("split", "set", "subset", "partition", "datasplit", "usage")
VALUE_NAMES = ("confidence", "present", "presence", "verified", "isverified", "value", "positive")


@dataclass(frozen=True)
class Roles:
    """Positions of the columns in one table, by role.

    Attributes:
        image: Column of image names.
        split: Column of split names, or None.
        labels: Columns that each contain the values of one label (wide form).
        names: Column of label names, or None. If this column is set, `labels` is empty.
        value: Column that states whether the label in the same row is present (long form), or None.
    """

    image: int
    split: int | None
    labels: tuple[int, ...] = ()
    names: int | None = None
    value: int | None = None


class NoImageColumnError(DataError):
    """No column of a table seems to contain image names."""


def cell_key(text: str) -> float | str:
    """Return a key for comparing cells: `1`, `1.0`, `1,0` and ` 1` have the same key, and case is ignored.

    The key of `NaN` is the key of a blank cell.
    """
    decimal = _DECIMAL_COMMA.fullmatch(text)
    if decimal:
        return float(decimal[1])
    if not is_number(text):
        return text.strip().casefold()
    value = float(text)
    return "" if math.isnan(value) else value


def cell_meanings(options: ReadOptions) -> dict[float | str, int]:
    """Return a mapping from cell keys (see `cell_key`) to targets, including the values set by options.

    Raises:
        UsageError: Two options specify the same value, an option contradicts the fixed meaning of a value (for example,
            `--negative 1` or `--positive 0`), or the value of `--empty` is neither "negative" nor "unknown".
    """
    given = (
        ("positive", options.positive, POSITIVE),
        ("negative", options.negative, NEGATIVE),
        ("unknown", options.unknown, UNKNOWN),
    )
    meanings = dict(MEANINGS)
    flags: dict[float | str, str] = {}
    for flag, text, value in given:
        if text is None:
            continue
        key = cell_key(text)
        if key in flags:
            raise UsageError(f"--{flags[key]} and --{flag} are both '{text}'; choose a different value for one of them")
        if value != POSITIVE and MEANINGS.get(key) == POSITIVE:
            raise UsageError(f"--{flag} {text}: this value always means positive; choose a different value")
        if value == POSITIVE and MEANINGS.get(key) == NEGATIVE:
            raise UsageError(f"--{flag} {text}: this value always means negative; choose a different value")
        meanings[key] = value
        flags[key] = flag
    if options.empty is not None:
        if options.empty not in EMPTY:
            raise UsageError(f"--empty {options.empty}: expected 'negative' or 'unknown'")
        meanings[""] = EMPTY[options.empty]
    return meanings


class RoleFinder:
    """Detector of the column roles in one table, based on column names and some of the cells."""

    def __init__(
        self,
        table: TextTable,
        options: ReadOptions,
        meanings: Mapping[float | str, int],
        exists: Callable[[str], bool],
        findings: ValidationReport,
    ) -> None:
        """Store the table and a sample of its rows.

        Args:
            table: Table whose columns are analyzed.
            options: Options set by the user.
            meanings: See `cell_meanings`.
            exists: Function that returns whether a cell is the name of an existing image. Called only if column names
                are ambiguous.
            findings: Report to which warnings about unused columns are added.
        """
        self._table, self._options, self._meanings = table, options, meanings
        self._exists, self._findings = exists, findings
        rows = table.rows[:: max(1, len(table.rows) // SAMPLED)]
        self._cells = [[cells[k].strip() for cells in rows] for k in range(len(table.columns))]

    def roles(self) -> Roles:
        """Return the roles of all columns.

        Raises:
            DataError: There is no image column or no label column, multiple columns match equally well, or a column
                that the user named does not exist.
        """
        image = self.image()
        split = split_column(self._table, image, self._options, self._findings)
        rest = [k for k in range(len(self._table.columns)) if k not in (image, split)]
        if self._options.label_column is not None:
            given = column_named(self._table, self._options.label_column, "--label-column")
            return Roles(image, split, names=given, value=self._value(rest, given))
        rest = [k for k in rest if self._table.columns[k] not in self._options.ignore_columns]
        chosen = self._options.labels
        rest = self._without_images(rest, chosen)
        names = None
        if chosen is None or not any(self._table.columns[k] in chosen for k in rest):
            names = self._names(rest)
        if names is None:
            columns = label_columns(self._table, rest, chosen, self._findings)
            return Roles(image, split, labels=tuple(k for k in columns if not self._reported_as_no_label(k, chosen)))
        value = self._value(rest, names)
        unused = [self._table.columns[k] for k in rest if k not in (names, value) and not self._is_passive(k)]
        if unused:
            self._findings.warn(
                "columns other than the label column were not used; to use a different label column, set "
                "--label-column",
                f"{self._table.path}: {', '.join(unused)}",
            )
        return Roles(image, split, names=names, value=value)

    def _without_images(self, rest: Sequence[int], chosen: Sequence[str] | None) -> list[int]:
        """Return the columns without additional image columns, such as masks."""
        images = [k for k in rest if self._all(k, is_image) and self._table.columns[k] not in (chosen or ())]
        if images and chosen is None:
            self._findings.warn(
                "additional image columns were not used; choose one with --image-column",
                f"{self._table.path}: {', '.join(self._table.columns[k] for k in images)}",
            )
        return [k for k in rest if k not in images]

    def image(self) -> int:
        """Return the image column, which is identified by its cells, by its name, or by existing files.

        Raises:
            NoImageColumnError: No column seems to contain image names.
            DataError: Multiple columns may contain image names, or the column that the user named does not exist.
        """
        table = self._table
        if self._options.image_column is not None:
            return column_named(table, self._options.image_column, "--image-column")
        columns = [k for k in range(len(table.columns)) if not self._is_values(k)]
        look = [k for k in columns if self._all(k, lambda cell: is_image(cell.replace("\\", "/")))]
        named = [k for k in columns if letters(table.columns[k]) in IMAGE_NAMES]
        candidates = look + [k for k in named if k not in look]
        if not candidates:
            candidates = [k for k in columns if letters(table.columns[k]) in KEY_NAMES]
        if len(candidates) == 1:
            return candidates[0]
        there = [k for k in candidates or columns if self._all(k, self._exists)]
        for fitting in (there, [k for k in look if k in named], look, named):
            if len(fitting) == 1:
                return fitting[0]
        shown = ", ".join(f"'{table.columns[k]}'" for k in there or candidates or range(len(table.columns)))
        if candidates:
            raise DataError(
                f"{table.path}: multiple columns may contain the image names; choose one of {shown} with --image-column"
            )
        raise NoImageColumnError(f"{table.path}: no image column found; choose one of {shown} with --image-column")

    def _reported_as_no_label(self, column: int, chosen: Sequence[str] | None) -> bool:
        """Report a label column without any label value, with one error instead of one error per cell."""
        cells = [cell for cell in self._cells[column] if cell]
        values = any(cell_key(cell) in self._meanings or cell.casefold() in ANSWERS for cell in cells)
        if chosen is not None or not cells or (values and not self._is_text(column)):
            return False
        name = self._table.columns[column]
        row = next(row for row, cell in enumerate(self._table.column(column)) if cell.strip())
        self._findings.error(
            self._table.where(row, column),
            f"'{self._table.rows[row][column].strip()}' is not 0, 1 or -1 (unknown). If the column is not a "
            f"label, use --ignore-columns '{name}'; if it contains label names, use --label-column '{name}'",
        )
        return True

    def _names(self, rest: Sequence[int]) -> int | None:
        """Return the column of label names: the only text column, or the column named `labels` or similar."""
        texts = [k for k in rest if self._is_text(k) and not self._is_passive(k)]
        called = [k for k in texts if letters(self._table.columns[k]) in LABEL_NAMES]
        if len(called) == 1:
            return called[0]
        others = [k for k in rest if k not in texts and not self._is_passive(k)]
        # Columns of yes and no are also labels, even if no option assigns a meaning to these words yet.
        wide = any(self._all(k, lambda cell: cell_key(cell) in {*self._meanings, *ANSWERS}) for k in others)
        if len(texts) == 1 and not wide:
            return texts[0]
        if not texts or wide:
            return None
        shown = ", ".join(f"'{self._table.columns[k]}'" for k in texts)
        raise DataError(
            f"{self._table.path}: the label column is ambiguous ({shown}); choose one with "
            f"--label-column, or list the columns with --labels if each column is one label"
        )

    def _value(self, rest: Sequence[int], names: int) -> int | None:
        """Return the column that states whether the label of a row is present."""
        ignored = self._options.ignore_columns
        called = [k for k in rest if k != names and letters(self._table.columns[k]) in VALUE_NAMES]
        called = [k for k in called if self._table.columns[k] not in ignored]
        if len(called) == 1:
            return called[0]
        return None

    def _is_passive(self, column: int) -> bool:
        """Return whether a column is named like metadata."""
        name = self._table.columns[column]
        return _is_metadata(name) or "_".join(words(name)) in EXPORT_METADATA

    def _is_values(self, column: int) -> bool:
        """Return whether all non-blank cells are label values."""
        return self._all(column, lambda cell: cell_key(cell) in self._meanings)

    def _is_text(self, column: int) -> bool:
        """Return whether a cell is text, and no cell is a label value."""
        cells = [cell for cell in self._cells[column] if cell_key(cell) != ""]
        if all(cell.casefold() in ANSWERS or _DECIMAL_COMMA.fullmatch(cell) for cell in cells):
            return False
        words = [cell for cell in cells if not is_number(cell)]
        if words and all(_SEVERAL_NUMBERS.fullmatch(cell) for cell in words):
            return True  # class numbers, with multiple numbers in some cells
        return bool(words) and not any(cell_key(cell) in self._meanings for cell in cells)

    def _all(self, column: int, test: Callable[[str], bool]) -> bool:
        """Return whether the column has cells that are not blank, and all of them pass the test."""
        cells = [cell for cell in self._cells[column] if cell_key(cell) != ""]
        return bool(cells) and all(map(test, cells))


def letters(name: str) -> str:
    """Return the letters and digits of a column name in lower case, for comparisons.

    Example:
        >>> letters("File Name"), letters("image_id")
        ('filename', 'imageid')
    """
    return re.sub(r"[\W_]+", "", name.casefold())


def words(name: str) -> list[str]:
    """Return the words of a column name in lower case.

    A capital letter after a lowercase letter starts a new word.

    Example:
        >>> words("Patient ID"), words("img_width"), words("isLabelled")
        (['patient', 'id'], ['img', 'width'], ['is', 'labelled'])
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[\W_]+", spaced.casefold()) if word]


def column_named(table: TextTable, name: str, flag: str) -> int:
    """Return the position of a column specified by the user.

    An exact match is preferred to a case-insensitive match.

    Raises:
        DataError: There is no such column; the message suggests the nearest name.
    """
    if name in table.columns:
        return table.columns.index(name)
    same = [k for k, column in enumerate(table.columns) if column.casefold() == name.strip().casefold()]
    if len(same) == 1:
        return same[0]
    there = nearest(name, table.columns) or f"; available columns: {', '.join(table.columns[:10])}"
    raise DataError(f"{table.path}: {flag}: no column '{name}'{there}")


def split_column(table: TextTable, image: int, options: ReadOptions, findings: ValidationReport) -> int | None:
    """Return the index of the column of split names, or None.

    A numeric column named `split` is ignored with a warning unless `--splits` maps its numbers to splits. A column
    named `set`, `partition` or similar is used if all its cells are split names.

    Raises:
        DataError: Two columns are named `split`.
    """
    free = [k for k in range(len(table.columns)) if k != image and table.columns[k] not in (options.labels or ())]
    free = [k for k in free if table.columns[k] not in options.ignore_columns]
    called = [k for k in free if table.columns[k].casefold() == SPLIT_COLUMN]
    if len(called) > 1:
        raise DataError(f"{table.path}: two columns are named '{SPLIT_COLUMN}'; rename one")
    if not called:
        called = [k for k in free if letters(table.columns[k]) in SPLIT_NAMES]
        called = [k for k in called if _all_known(table.column(k).first_rows(), options.split_names)]
        if len(called) == 1:
            return called[0]
        return None
    column = called[0]
    cells = set(table.column(column).first_rows())
    named = {cell.strip().casefold() for cell in cells} & set(options.split_names)
    if named or not all(is_number(cell) or cell_key(cell) in MEANINGS for cell in cells):
        return column
    values = ", ".join(sorted(cell.strip() for cell in cells)[:3])
    example = min(cells).strip()
    findings.warn(
        "a numeric column 'split' was not used; map its values to splits with --splits",
        f"{table.path} ({values}), for example --splits {example}=train,...",
    )
    return None


def _all_known(cells: Iterable[str], given: Mapping[str, str]) -> bool:
    return all(known_split(cell) is not None or cell.strip().casefold() in given for cell in cells)


def label_columns(
    table: TextTable, rest: Sequence[int], chosen: Sequence[str] | None, findings: ValidationReport
) -> list[int]:
    """Return the label columns of a table.

    With `--labels`, only the listed columns are used. Without `--labels`, all columns in `rest` except metadata are
    used.

    Metadata columns are skipped, and a warning lists their names. Columns named `fold`, `split`, `id`, `index`,
    `width`, `height`, `image_width`, `*_id`, `is_*` and similar are metadata, in any case and with any separator. If
    all columns other than these start with `is_`, the columns named `is_*` are used as labels.

    Raises:
        DataError: A column in `--labels` does not exist, or no label column remains.
    """
    if chosen is not None:
        names = [table.columns[k] for k in rest]
        for name in chosen:
            if name not in names:
                raise DataError(f"{table.path}: no column '{name}'{nearest(name, names)}")
        return [table.columns.index(name) for name in chosen]
    labels = [k for k in rest if not _is_metadata(table.columns[k])]
    if any(not _is_flag(table.columns[k]) for k in labels):
        labels = [k for k in labels if not _is_flag(table.columns[k])]
    left_out = [table.columns[k] for k in rest if k not in labels and table.columns[k].casefold() != SPLIT_COLUMN]
    if not labels:
        taken = f" (--labels accepts columns named like metadata: {', '.join(left_out)})" if left_out else ""
        raise DataError(f"{table.path}: no label column found; expected the columns 'filename,label,...'{taken}")
    if left_out:
        findings.warn(
            "columns named like metadata were not used as labels; to use them, list them with --labels",
            ", ".join(left_out),
        )
    return labels


def _is_metadata(name: str) -> bool:
    parts = words(name)
    if len(parts) > 1 and parts[-1] == KEY:
        return True
    while len(parts) > 1 and parts[0] in SUBJECTS:
        parts = parts[1:]
    return "".join(parts) in METADATA


def _is_flag(name: str) -> bool:
    parts = words(name)
    return len(parts) > 1 and parts[0] == FLAG
