"""Reader for Open Images V4 to V7: image-level labels that humans verified as present or absent.

Unverified labels are unknown.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlrec.datasets.image_paths import Omitted, files_below
from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.samples import ImageFinder, clean_labels, manifest_of
from mlrec.datasets.split_names import known_split, usual_order
from mlrec.utils.errors import DataError, ValidationReport, counted
from mlrec.utils.files import check_regular

NOT_THERE = "annotated images that are missing"
COLUMNS = ("ImageID", "LabelName", "Confidence")
_LABELS = re.compile(r"(?:oidv\d+-)?(?P<split>[a-z]+)-annotations-(?:human-)?imagelabels(?:-boxable)?", re.IGNORECASE)
_MACHINE = re.compile(r"(?:oidv\d+-)?[a-z]+-annotations-machine-imagelabels", re.IGNORECASE)
_NAMES = re.compile(r"(?:oidv\d+-)?class-descriptions(?:-boxable)?", re.IGNORECASE)


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as Open Images, otherwise None."""
    for place in (path, path / "annotations", path / "labels"):
        for file in sorted(place.glob("*.csv")):
            if _LABELS.match(file.stem):
                return f"it contains {file.name}, like Open Images"
    return None


def read_openimages(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read `<split>-annotations-human-imagelabels[-boxable].csv` and `class-descriptions[-boxable].csv`.

    Images are named `<ImageID>.jpg`. The images are in folders named after the splits, or anywhere below `path` or
    `options.images`. The annotations usually list many more images than were downloaded. Missing images are skipped and
    counted, unless all images of a split are missing. All labels that are verified at least once are used, in the order
    of the class descriptions.

    Raises:
        DataError: There is no annotation file, or a file cannot be read.
    """
    base = path.absolute()
    root = (options.images or base).absolute()
    files = [file for file in files_below(base, Omitted()) if file.suffix.lower() == ".csv"]
    tables = _tables(files, options, findings)
    if not tables:
        raise DataError(f"{base}: no <split>-annotations-human-imagelabels.csv found; specify the Open Images folder")
    names = _descriptions([file for file in files if _NAMES.fullmatch(file.stem)], findings)
    finder = ImageFinder(root, findings)
    skipped = 0
    verified: dict[str, dict[str, dict[str, int]]] = {}
    for split, table_files in tables.items():
        known = _verified(table_files, findings)
        folders = _folders(root, split)
        found = {key: finder.find((f"{key}.jpg", key), f"{table_files[0]}: {key}", folders) for key in known}
        there = [key for key, image in found.items() if finder.exists(image)]
        if there and len(there) < len(found):
            skipped += len(found) - len(there)
            found = {key: found[key] for key in there}
        verified[split] = {image: known[key] for key, image in found.items()}
    codes = {code for known in verified.values() for values in known.values() for code in values}
    for code in sorted(codes - names.keys()):
        findings.warn("labels without a description were named after their codes", code)
    ordered = [code for code in names if code in codes] + sorted(codes - names.keys())
    labels = clean_labels([names.get(code, code) for code in ordered], f"{base}: class descriptions", findings)
    label_of = dict(zip(ordered, labels, strict=True))
    manifests = [_manifest(split, root, verified[split], label_of) for split in sorted(verified, key=usual_order)]
    reading = Reading("openimages", manifests, {"kind": "openimages", "path": str(base)})
    if skipped:
        reading.skipped[NOT_THERE] = skipped
    return reading


def _tables(files: list[Path], options: ReadOptions, findings: ValidationReport) -> dict[str, list[Path]]:
    """Return the files with verified labels, by split."""
    tables: dict[str, list[Path]] = {}
    for file in files:
        split, match = None, _LABELS.fullmatch(file.stem)
        if match:
            own = match["split"].casefold()
            split = options.split_names.get(own) or known_split(own)
        if split:
            tables.setdefault(split, []).append(file)
        elif _MACHINE.match(file.stem):
            findings.warn("unverified machine-generated labels were not used", str(file))
    return tables


def _folders(root: Path, split: str) -> list[str]:
    """Return the folders below `root` that are named after a split, then the root."""
    places = sorted(folder for place in (root, root / "images") for folder in place.glob("[!.]*") if folder.is_dir())
    return [*(folder.relative_to(root).as_posix() for folder in places if known_split(folder.name) == split), ""]


def _descriptions(files: list[Path], findings: ValidationReport) -> dict[str, str]:
    """Return the label name for each code; without a description file, codes are used, with a warning."""
    names: dict[str, str] = {}
    for file in files:
        for number, row in _rows(file):
            if len(row) != 2:
                findings.error(
                    f"{file}: line {number}",
                    f"found {counted(len(row), 'cell')}, expected 2 (code and name); download the file again",
                )
            elif row[0] != "LabelName":
                names.setdefault(row[0], row[1])
    return names


def _verified(files: list[Path], findings: ValidationReport) -> dict[str, dict[str, int]]:
    """Return the target by image and code.

    Contradictory verifications make a label unknown, with a warning.
    """
    known: dict[str, dict[str, int]] = {}
    for file in files:
        rows = _rows(file)
        _, header = next(rows, (1, []))
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise DataError(
                f"{file}: the header does not contain {', '.join(missing)}; check that this is an Open Images file"
            )
        image, code, confidence = (header.index(name) for name in COLUMNS)
        for number, row in rows:
            if len(row) != len(header):
                findings.error(
                    f"{file}: line {number}",
                    f"found {counted(len(row), 'cell')}, expected {len(header)}; download the file again",
                )
                continue
            values = known.setdefault(row[image], {})
            value = _value(row[confidence], f"{file}: line {number}", findings)
            if values.setdefault(row[code], value) != value:
                findings.warn(
                    "verifications contradict each other, so the label was set to unknown", f"{file}: line {number}"
                )
                values[row[code]] = UNKNOWN
    return known


def _value(text: str, where: str, findings: ValidationReport) -> int:
    try:
        confidence = float(text)
    except ValueError:
        findings.error(where, f"Confidence '{text}' is not a number; download the file again")
        return UNKNOWN
    if confidence not in (0, 1):
        findings.warn("labels with a confidence other than 0 or 1 are not verified and were set to unknown", where)
        return UNKNOWN
    return POSITIVE if confidence == 1 else NEGATIVE


def _manifest(split: str, root: Path, known: Mapping[str, Mapping[str, int]], label_of: Mapping[str, str]) -> Manifest:
    targets = {image: {label_of[code]: value for code, value in values.items()} for image, values in known.items()}
    return manifest_of(split, root, list(label_of.values()), targets, name="openimages", default=UNKNOWN)


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Iterate over the rows of a table and their line numbers. The tables have millions of rows."""
    check_regular(file)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DataError(f"{file}: the file cannot be read as CSV ({error}); download it again") from error
