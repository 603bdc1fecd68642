"""Where COCO keeps its files: which annotation file is which split, and which folder holds its images."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlrec.datasets.image_paths import Omitted, files_below
from mlrec.datasets.manifest import duplicates_in
from mlrec.datasets.names import SPLIT_NAME
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.datasets.split_names import WHOLE, known_split, usual_order
from mlrec.utils.errors import DataError, UsageError, ValidationReport, printable

EXPECTED = ("train", "val")
LONGEST_LINK = 4096  # bytes of a path
_OTHER_TASK = re.compile(r"(captions|person_keypoints|panoptic|stuff|image_info|stuff_image_info)_", re.IGNORECASE)
_NAME = re.compile(r"(?P<split>.+?)[_-]?(?P<year>\d{4})?")


@dataclass(frozen=True)
class Part:
    """One split: its annotation file, the root of the dataset, and the folder of its images below that ("" = root)."""

    split: str
    file: Path
    root: Path
    folder: str


def find_parts(path: Path, options: ReadOptions, findings: ValidationReport) -> tuple[str, list[Part]]:
    """The default name of the dataset and its splits.

    Raises:
        DataError: no annotation file, or several years and none chosen.
        UsageError: own files without a split for each.
    """
    if options.annotations:
        _check_names(options.annotations, options.split_names, "--annotations", findings)
        return _own_parts(path, options)
    if options.splits:
        raise UsageError("--split says what --annotations is; the splits of a COCO folder are those of its files")
    folder = path / "annotations"
    years = _years(folder, options.split_names, findings)
    if not years:
        raise DataError(
            f"{printable(folder)}: no instances_train<year>.json or instances_val<year>.json here; give the folder "
            "above annotations, or one own file with --annotations"
        )
    if len(years) > 1 and options.year is None:
        raise DataError(f"{printable(folder)}: holds the years {', '.join(sorted(years))}; choose one with --year")
    year = options.year or next(iter(years))
    if year not in years:
        raise DataError(f"{printable(folder)}: no year '{printable(year)}', only {', '.join(sorted(years))}")
    _warn_of_other_files(folder, {file for parts in years.values() for file in parts.values()}, findings)
    for split in EXPECTED:
        if split not in years[year]:
            missing = f"{folder}/instances_{split}{year}.json"
            findings.warn(f"split '{split}' is absent, because its file is missing", missing)
    root = (options.images or path).absolute()
    parts = [
        Part(split, years[year][split], root, _image_folder(root, split, year, findings, years[year][split]))
        for split in sorted(years[year], key=usual_order)
    ]
    return f"coco{year}" if year else path.absolute().name, parts


def _own_parts(path: Path, options: ReadOptions) -> tuple[str, list[Part]]:
    """The files that were named, one a split: called by the file where it is one, else by the folder of the images."""
    files = options.annotations
    root = (options.images or path).absolute()
    if not root.is_dir():
        raise DataError(f"{printable(root)}: no such folder; give the folder of the images with --images")
    splits = tuple(known_split(split) or split for split in options.splits)
    splits = splits or tuple(_split_of(file, options.split_names) or WHOLE for file in files)
    if len(splits) != len(files):
        raise UsageError(
            f"{len(files)} --annotations and {len(splits)} --split: give one --split for each, in that order"
        )
    for split in splits:
        if not SPLIT_NAME.fullmatch(split):
            raise UsageError(f"--split '{printable(split)}' is no name of a split; write train, val or test")
    if twice := duplicates_in(splits):
        raise UsageError(f"two --annotations are of split '{printable(twice[0])}'; give a --split for each, in order")
    parts = [Part(split, file, root, "") for split, file in zip(splits, files, strict=True)]
    return files[0].stem if len(files) == 1 else root.name, parts


def _years(folder: Path, given: Mapping[str, str], findings: ValidationReport) -> dict[str, dict[str, Path]]:
    """Annotation files by year ("" for none) and split; two of one split and year are an error."""
    files = [file for file in sorted(folder.glob("[!.]*.json")) if _split_of(file, given) is not None]
    years: dict[str, dict[str, Path]] = {}
    for file in files:
        split, year = str(_split_of(file, given)), _named(file)[1]
        other = years.setdefault(year, {}).setdefault(split, file)
        if other != file:
            findings.error(f"{file}", f"is of split '{split}', as {printable(other.name)} is; keep one")
    _check_names(files, given, printable(folder), findings)
    return years


def _check_names(files: Sequence[Path], given: Mapping[str, str], where: str, findings: ValidationReport) -> None:
    """Report names of `--splits` that are in the name of no annotation file."""
    for own in sorted(given.keys() - {_named(file)[0] for file in files}):
        findings.error("--splits", f"{where}: no annotation file of split '{printable(own)}'")


def _warn_of_other_files(folder: Path, known: Collection[Path], findings: ValidationReport) -> None:
    """Warn of annotation files that no split is read from; the official ones of other tasks are no instances."""
    for file in files_below(folder, Omitted()):
        if file.suffix.lower() == ".json" and file not in known and not _OTHER_TASK.match(file.name):
            findings.warn("annotation files that are no split's were not used", str(file))


def _split_of(file: Path, given: Mapping[str, str]) -> str | None:
    """The split that an annotation file is named after."""
    own = _named(file)[0]
    return given.get(own) or known_split(own)


def _named(file: Path) -> tuple[str, str]:
    """The split, in lower case, and the year ("" for none) in the name of an annotation file."""
    match = _NAME.fullmatch(file.stem.removeprefix("instances_"))
    return (match["split"].casefold(), match["year"] or "") if match else ("", "")


def _image_folder(root: Path, split: str, year: str, findings: ValidationReport, file: Path | None = None) -> str:
    """The folder of a split's images: called like its annotation file, like the split, or by another name for it."""
    usual = f"{split}{year}"
    own = usual if file is None else file.stem.removeprefix("instances_")
    for folder in (own, f"images/{own}", usual, f"images/{usual}", *_other_spellings(root, split, year)):
        if (root / folder).is_dir():
            return folder
        if target := _link_in_words(root, folder):
            findings.warn("a folder of images is a file that names another folder, which was used", f"{root / folder}")
            return target
    if split == WHOLE:
        return "images" if (root / "images").is_dir() else ""
    findings.warn(f"split '{split}' has no folder of images", f"{root / usual} or {root / 'images' / usual}")
    return usual


def _other_spellings(root: Path, split: str, year: str) -> list[str]:
    """Folders below `root` that are named after the split in another way: `Validation`, `images/valid2017`."""
    folders = [folder for place in (root, root / "images") for folder in sorted(place.glob("[!.]*")) if folder.is_dir()]
    named = [(folder, _NAME.fullmatch(folder.name)) for folder in folders]
    return [
        folder.relative_to(root).as_posix()
        for folder, match in named
        if match and known_split(match["split"]) == split and match["year"] in (year or None, None)
    ]


def _link_in_words(root: Path, folder: str) -> str | None:
    """The folder below `root` that a small file in the place of `folder` names: git's form of a link it cannot make."""
    file = root / folder
    if not file.is_file() or file.stat().st_size > LONGEST_LINK:
        return None
    try:
        named = file.read_bytes().decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(folder), named)) if named.isprintable() else ".."
    inside = target.partition("/")[0] not in ("", ".", "..") and (root / target).is_dir()
    return target if inside and (root / target).resolve().is_relative_to(root.resolve()) else None


LABELS = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)  # fmt: skip
