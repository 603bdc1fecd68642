"""Detection of the source kind by file names, headers and first bytes, without reading whole files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlrec.datasets.image_paths import Omitted, files_below, is_image
from mlrec.datasets.readers.registry import known_readers, known_recognizers, recognizer_of
from mlrec.utils.errors import DataError, UsageError, counted, nearest
from mlrec.utils.names import alike

# Many other layouts contain tables and image folders, so these kinds are checked last, in this order.
GENERAL = ("csv", "folders")
MOST_FILES = 2000  # maximum number of files counted to describe a folder
KINDS_SHOWN = 5
HEAD_BYTES = 4096


@dataclass(frozen=True)
class Detection:
    """Detected kind of a source (a key of `READERS`), and the reason for choosing this kind."""

    kind: str
    reason: str


def detect(path: Path) -> Detection:
    """Find the kind of the source at `path`.

    Formats of specific tools or datasets have priority over tables and class folders (`GENERAL`).

    Raises:
        UsageError: Nothing exists at `path`, or multiple kinds match.
        DataError: No known format matches; the message describes the content of `path`.
    """
    if not path.exists():
        near = alike(path)
        hint = f"; did you mean {near}?" if near else nearest(str(path), known_readers())
        raise UsageError(f"{path}: no such file or folder{hint}")
    special = [kind for kind in known_recognizers() if kind not in GENERAL]
    for kinds in (special, *([kind] for kind in GENERAL)):
        fitting = _recognized(path, kinds)
        if len(fitting) > 1:
            raise UsageError(_several(path, fitting))
        for kind, reason in fitting.items():
            return Detection(kind, reason)
    raise DataError(
        f"{path}: {describe(path)}; the kind of dataset was not recognized; run mlrec prepare KIND {path} "
        f"(kinds: {', '.join(known_readers())}), or convert the annotations to a CSV file with the columns "
        "filename,label and one row per image and label"
    )


def _recognized(path: Path, kinds: Sequence[str]) -> dict[str, str]:
    """Return the matching `kinds`, with their reasons."""
    reasons = {kind: recognizer_of(kind)(path) for kind in kinds if kind in known_recognizers()}
    return {kind: reason for kind, reason in reasons.items() if reason}


def _several(path: Path, fitting: Mapping[str, str]) -> str:
    commands = " or ".join(f"mlrec prepare {kind} {path} ({reason})" for kind, reason in fitting.items())
    return f"{path}: the kind is ambiguous; choose one: {commands}"


def describe(path: Path) -> str:
    """Describe `path` in a few words, such as "an Excel file" or "a folder of 12 .heic files".

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     describe(Path(folder))
        'an empty folder'
    """
    return _folder(path) if path.is_dir() else _file(path)


def _file(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        return f"a file that cannot be read ({error.strerror})"
    if not head:
        return "an empty file"
    if head.startswith(ZIP):
        return _zip(path)
    for start, what in FIRST_BYTES.items():
        if head.startswith(start):
            return what
    if head[257:262] == b"ustar":
        return "a tar file"
    if is_image(path.name):
        return "an image; specify the file or folder of its annotations"
    text = head.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if text.startswith("<"):
        return _xml(text)
    if text.startswith(("{", "[")):
        return "a JSON file in an unknown format"
    if b"\0" in head:
        return f"a binary file{_ending(path)}"
    return f"a text file{_ending(path)} that is not a table"


ZIP = b"PK\x03\x04"
FIRST_BYTES = {
    b"PAR1": "Parquet",
    b"\xd0\xcf\x11\xe0": "an old Excel file (.xls); save it as .xlsx or CSV",
    b"\x1f\x8b": "a gzip file; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"MATLAB": "a MATLAB file",
    b"ARROW1": "an Arrow file",
    b"%PDF": "a PDF file",
    b"\x80\x04": "a Python pickle",
}


def _zip(path: Path) -> str:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return "a damaged ZIP file"
    if any(name.startswith("xl/") for name in names):
        return "an Excel file"
    if any(name.endswith(".npy") for name in names):
        return "a NumPy .npz file"
    return "a ZIP file; unpack it first"


def _xml(text: str) -> str:
    tags = {
        "<annotations": "CVAT XML",
        "<annotation": "VOC XML",
        "<!doctype html": "an HTML page",
        "<html": "an HTML page",
    }
    lowered = text.casefold()
    for tag, what in tags.items():
        if tag in lowered:
            return what
    return "an XML file in an unknown format"


def _ending(path: Path) -> str:
    return f" ({path.suffix})" if path.suffix else ""


def _folder(path: Path) -> str:
    """Describe a folder by its file extensions; in a large folder, only the first files are counted."""
    kinds: Counter[str] = Counter()
    for number, file in enumerate(files_below(path, Omitted())):
        if number == MOST_FILES:
            break
        kinds[file.suffix.lower() or "without extension"] += 1
    if not kinds:
        return "an empty folder"
    shown = [f"{count:,} {kind}" for kind, count in kinds.most_common(KINDS_SHOWN)]
    if len(kinds) > KINDS_SHOWN:
        shown.append("...")
    at_least = ""
    if kinds.total() == MOST_FILES:  # the rest was not counted
        at_least = "at least "
    if kinds.total() == 1:
        return f"a folder of {shown[0]} file"
    if len(kinds) == 1:
        return f"a folder of {at_least}{shown[0]} files"
    return f"a folder of {at_least}{counted(kinds.total(), 'file')} ({', '.join(shown)})"
