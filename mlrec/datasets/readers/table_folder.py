"""Search for the tables in a folder, and for the split of each table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlrec.datasets.image_paths import Omitted, files_below
from mlrec.datasets.images.decode import SUFFIXES
from mlrec.datasets.readers.columns import letters
from mlrec.datasets.readers.csv_file import encoding_of
from mlrec.datasets.readers.table_dialect import holds_images
from mlrec.datasets.readers.table_file import DELIMITED, ENDINGS, EXCEL, JSON, JSON_LINES, PARQUET
from mlrec.datasets.split_names import WHOLE, known_split, usual_order
from mlrec.utils.errors import DataError, ValidationReport

OTHER_TABLES = (".txt", ".xls")
FORMATS = (DELIMITED, PARQUET, JSON_LINES, EXCEL, JSON)  # only the first format that a folder contains is read
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}")  # Hugging Face: train-00000-of-00002
# JSON: an array of objects with an image name, or an object whose first key is an image name and that holds lists.
_IMAGE = rb"[^\"]+\.(?:" + "|".join(suffix[1:] for suffix in SUFFIXES).encode() + rb")\""
_JSON_RECORDS = re.compile(
    rb"\s*(?:\xef\xbb\xbf)?\s*(?:\[\s*\{[^{}]*:\s*\"" + _IMAGE + rb"|\{\s*\"" + _IMAGE + rb"\s*:\s*\[)", re.IGNORECASE
)
HEAD_BYTES = 16384
EXAMPLE_ANSWERS = "samplesubmission"  # Kaggle: a table in the right format with meaningless labels
MOST_FILES = 20_000  # maximum number of files checked to recognize a folder
IMAGE_KEYS = (b"file_name", b"filename", b"image", b"path")
MANIFEST_HEAD = b'{"format":"mlrec-manifest/'


@dataclass(frozen=True)
class TableSource:
    """Table file and its split, if the name of the file or folder specifies a split."""

    path: Path
    split: str | None


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as a label table or a folder of tables, or None."""
    if path.is_file():
        return _recognizes_file(path)
    if not path.is_dir():
        return None
    found = table_sources(path, {}, None)
    if not found:
        return None
    shown = found[0].path.relative_to(path).as_posix()
    if len(found) > 1:
        shown += f" and {len(found) - 1} more"
    return f"tables ({shown})"


def _recognizes_file(path: Path) -> str | None:
    ending = path.suffix.lower()
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return None
    if ending in EXCEL and head.startswith(b"PK"):
        return "an Excel table"
    if ending in PARQUET and head.startswith(b"PAR1"):
        return "a Parquet table"
    if ending in JSON_LINES and not head.startswith(MANIFEST_HEAD) and any(b'"' + key in head for key in IMAGE_KEYS):
        return "JSON Lines with image names"
    if ending in JSON and _JSON_RECORDS.match(head):
        return "a JSON table with image names"
    if ending in DELIMITED:
        return f"a table ({ending})"
    if ending in (".txt", ".dat", ""):
        text = head.decode(encoding_of(head), errors="replace")
        if "\0" not in text and holds_images(text):
            return "a table with image names"
    return None


def table_sources(folder: Path, given: Mapping[str, str], findings: ValidationReport | None) -> list[TableSource]:
    """Return the tables in a folder, in the usual order of their splits.

    If the folder itself contains no tables, its subfolders are searched. A subfolder is used if it is named after a
    split (`train/metadata.csv`), or if it contains files named after a split (`data/train-00000-of-00001.parquet`).
    If all file names contain a different split name (`train_labels.csv` and `test_labels.csv`), these are the splits.
    Only tables in one format are read; tables in other formats are skipped with a warning.

    Args:
        folder: Folder in which to search for tables.
        given: Mapping from original split names to splits, from `--splits`. The original names are also recognized.
        findings: Report that receives warnings about unused files, or None.
    """
    visible = sorted(file for file in folder.iterdir() if file.name[0] != "." and file.is_file())
    tables = [file for file in visible if _is_table(file)]
    answers = [file for file in tables if letters(file.stem).startswith(EXAMPLE_ANSWERS)]
    if findings is not None:
        for file in answers:
            findings.warn("sample submissions of competitions do not contain labels and were not used", str(file))
    tables = [file for file in tables if file not in answers]
    others = visible
    if not tables:
        tables = others = _tables_below(folder, given)
    if not tables:
        return []
    formats = [endings for endings in FORMATS if any(file.suffix.lower() in endings for file in tables)]
    used = [file for file in tables if file.suffix.lower() in formats[0]]
    if findings is not None:
        for file in others:
            if file not in (*used, *answers) and file.suffix.lower() in (*ENDINGS, *OTHER_TABLES):
                findings.warn("tables whose format differs from that of the first table were not used", str(file))
    sources = [TableSource(file, _split_of(file, folder, given)) for file in used]
    named = [_split_in(file.stem) for file in used]
    if len(set(named)) == len(used) > 1 and None not in named and not any(source.split for source in sources):
        sources = [TableSource(file, split) for file, split in zip(used, named, strict=True)]
    return sorted(sources, key=lambda source: (usual_order(known_split(source.split or "") or ""), str(source.path)))


def _is_table(file: Path) -> bool:
    if file.suffix.lower() in (*JSON_LINES, *JSON):
        return _recognizes_file(file) is not None
    return file.suffix.lower() in ENDINGS


def _tables_below(folder: Path, given: Mapping[str, str]) -> list[Path]:
    """Return tables in the folders below `folder` whose split is known."""
    found: list[Path] = []
    for number, file in enumerate(files_below(folder, Omitted())):
        if number == MOST_FILES and not found:
            break
        if file.suffix.lower() in ENDINGS and _is_table(file) and _split_of(file, folder, given) is not None:
            found.append(file)
    return found


def _split_of(file: Path, folder: Path, given: Mapping[str, str]) -> str | None:
    """Return the name of the split that a file, or a folder above it, is named after."""
    stem, shard = file.stem, _SHARD.fullmatch(file.stem)
    if shard:
        stem = shard[1]
    for name in (stem, *reversed(file.parent.relative_to(folder).parts)):
        if known_split(name) is not None or name.casefold() in given:
            return name
    return None


def _split_in(stem: str) -> str | None:
    """Return the only split name among the words of a file name.

    Example:
        >>> _split_in("train_labels"), _split_in("labels-Test"), _split_in("train_test"), _split_in("labels")
        ('train', 'Test', None, None)
    """
    found = [word for word in re.split(r"[\W_]+", stem) if known_split(word) not in (None, WHOLE)]
    return found[0] if len(found) == 1 else None


def check_sources(folder: Path, sources: Sequence[TableSource]) -> None:
    """Check that a folder contains tables.

    Raises:
        DataError: The folder does not contain any tables.
    """
    if not sources:
        raise DataError(
            f"{folder}: no tables found; expected one <split>.csv per split (supported extensions: "
            f"{', '.join(ENDINGS)})"
        )
