"""Where COCO keeps its files: which annotation file is which split, and which folder holds its images."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlrec.datasets.image_paths import Omitted, files_below
from mlrec.datasets.names import SPLIT_NAME, duplicates_in
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.datasets.readers.samples import first_bytes
from mlrec.datasets.split_names import WHOLE, known_split, resolve_names, usual_order
from mlrec.utils.errors import DataError, UsageError, ValidationReport
from mlrec.utils.files import folder_of

EXPECTED = ("train", "val")
LONGEST_LINK = 4096  # bytes of a path
OFFICIAL = re.compile(r"instances_(train|val)(2014|2017)")  # of which the paper leaves out images without labels
_OTHER_TASK = re.compile(r"(captions|person_keypoints|panoptic|stuff|.*image_info)_", re.IGNORECASE)
_NAME = re.compile(r"(?P<split>.+?)[_-]?(?P<year>\d{4})?")
_START = re.compile(rb'\s*\{\s*"(info|images|annotations|categories|licenses)"\s*:\s*[\[{]')


@dataclass(frozen=True)
class Part:
    """One split: its annotation file, the root of the dataset, and the folder of its images below that ("" = root)."""

    split: str
    file: Path
    root: Path
    folder: str

    @property
    def is_official(self) -> bool:
        """Whether the file is called like one of COCO 2014 or 2017."""
        return OFFICIAL.fullmatch(self.file.stem) is not None


def recognizes(path: Path) -> str | None:
    """The reason why this is COCO or annotated in its format, or None."""
    files = [path]
    if path.is_dir():
        files = _annotation_files(path)
    for file in files:
        if file.suffix.lower() == ".json" and _START.match(first_bytes(file)):
            return f"{file.relative_to(folder_of(path))} has the keys of COCO's annotations"
    return None


def _annotation_files(path: Path) -> list[Path]:
    """JSON files where COCO and tools that write its format keep them: annotations, the folder, folders of splits."""
    places = [
        path / "annotations",
        path,
        *(folder for folder in sorted(path.glob("[!.]*")) if known_split(folder.name)),
    ]
    files = (file for place in places for file in sorted(place.glob("[!.]*.json")))
    return [file for file in files if not _OTHER_TASK.match(file.name)]


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
    if path.is_file():
        return _own_parts(_home(path.absolute()), replace(options, annotations=(path,)))
    folder = path / "annotations"
    if not folder.is_dir():
        folder = path
    years = _years(folder, options.split_names, findings)
    if not years:
        return _parts_of_tools(path, options, findings)
    if len(years) > 1 and options.year is None:
        raise DataError(f"{folder}: holds the years {', '.join(sorted(years))}; choose one with --year")
    year = options.year or next(iter(years))
    if year not in years:
        raise DataError(f"{folder}: no year '{year}', only {', '.join(sorted(years))}")
    _warn_of_other_files(folder, {file for parts in years.values() for file in parts.values()}, findings)
    named_like_official = any(OFFICIAL.fullmatch(file.stem) for file in years[year].values())
    for split in EXPECTED:
        if named_like_official and split not in years[year]:
            missing = f"{folder}/instances_{split}{year}.json"
            findings.warn(f"split '{split}' is absent, because its file is missing", missing)
    root = (options.images or path).absolute()
    parts = [
        Part(split, years[year][split], root, _image_folder(root, split, year, findings, years[year][split]))
        for split in sorted(years[year], key=usual_order)
    ]
    if year:
        return f"coco{year}", parts
    return path.absolute().name, parts


def _parts_of_tools(path: Path, options: ReadOptions, findings: ValidationReport) -> tuple[str, list[Part]]:
    """Files that are not called `<split>.json`: one per folder of a split, one whose name ends so, or a single one.

    Raises:
        DataError: no annotation file, or several that are of no split.
    """
    root = (options.images or path).absolute()
    in_folders: dict[str, list[Path]] = {}
    for file in sorted(path.glob("[!.]*/[!.]*.json")):
        own = file.parent.name
        if (known_split(own) or own.casefold() in options.split_names) and _START.match(first_bytes(file)):
            in_folders.setdefault(own, []).append(file.absolute())
    if in_folders:
        names = resolve_names({own: str(path / own) for own in in_folders}, options.split_names, findings)
        for own, files in in_folders.items():
            if len(files) > 1:
                findings.error(str(path / own), f"holds {len(files)} files of annotations; keep one")
        parts = [Part(names[own], files[0], root, own) for own, files in in_folders.items()]
        return path.absolute().name, sorted(parts, key=lambda part: usual_order(part.split))
    files = [file for file in _annotation_files(path) if _START.match(first_bytes(file))]
    by_split: dict[str | None, list[Path]] = {}
    for file in files:
        by_split.setdefault(_last_word(file, options.split_names), []).append(file.absolute())
    # A file like instances_minival2017.json names a split that only --splits can explain.
    if len(files) == 1 and None in by_split and not files[0].stem.startswith("instances_"):
        return path.absolute().name, [Part(WHOLE, files[0].absolute(), root, _image_folder(root, WHOLE, "", findings))]
    unnamed = by_split.pop(None, [])
    if not by_split:
        several = f" ({', '.join(file.name for file in unnamed[:3])} are of no split)" if unnamed else ""
        raise DataError(
            f"{path / 'annotations'}: no instances_train<year>.json or instances_val<year>.json here"
            f"{several}; give the folder above annotations, or one own file with --annotations"
        )
    for file in unnamed:
        findings.warn("annotation files that are no split's were not used", str(file))
    for split, same in by_split.items():
        if len(same) > 1:
            findings.error(f"{same[1]}", f"is of split '{split}', as {same[0].name} is; keep one")
    found = [(split, same[0]) for split, same in by_split.items() if split is not None]
    parts = [Part(split, file, root, _folder_of_tools(root, split)) for split, file in found]
    return path.absolute().name, sorted(parts, key=lambda part: usual_order(part.split))


def _last_word(file: Path, given: Mapping[str, str]) -> str | None:
    """The split that the name of a file ends with: `lvis_v1_train`, `zhiyuan_objv2_val`."""
    word = re.split(r"[_\-.]", file.stem)[-1].casefold()
    return given.get(word) or known_split(word)


def _folder_of_tools(root: Path, split: str) -> str:
    """The folder of a split's images if there is one of that name. Often the names of images hold it already."""
    return next((folder for folder in _other_spellings(root, split, "") if (root / folder).is_dir()), "")


def _home(file: Path) -> Path:
    """The folder of a dataset of which one annotation file is given."""
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def _own_parts(path: Path, options: ReadOptions) -> tuple[str, list[Part]]:
    """The files that were named, one a split: called by the file where it is one, else by the folder of the images."""
    files = options.annotations
    root = (options.images or path).absolute()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder of the images with --images")
    splits = tuple(known_split(split) or split for split in options.splits)
    given = options.split_names
    splits = splits or tuple(_split_of(file, given) or _last_word(file, given) or WHOLE for file in files)
    if len(splits) != len(files):
        raise UsageError(
            f"{len(files)} --annotations and {len(splits)} --split: give one --split for each, in that order"
        )
    for split in splits:
        if not SPLIT_NAME.fullmatch(split):
            raise UsageError(f"--split '{split}' is no name of a split; write train, val or test")
    if twice := duplicates_in(splits):
        raise UsageError(f"two --annotations are of split '{twice[0]}'; give a --split for each, in order")
    parts = [Part(split, file, root, "") for split, file in zip(splits, files, strict=True)]
    if len(files) == 1:
        return files[0].stem, parts
    return root.name, parts


def _years(folder: Path, given: Mapping[str, str], findings: ValidationReport) -> dict[str, dict[str, Path]]:
    """Annotation files by year ("" for none) and split; two of one split and year are an error."""
    files = [file for file in sorted(folder.glob("[!.]*.json")) if _split_of(file, given) is not None]
    years: dict[str, dict[str, Path]] = {}
    for file in files:
        split, year = str(_split_of(file, given)), _named(file)[1]
        other = years.setdefault(year, {}).setdefault(split, file)
        if other != file:
            findings.error(f"{file}", f"is of split '{split}', as {other.name} is; keep one")
    _check_names(files, given, str(folder), findings)
    return years


def _check_names(files: Sequence[Path], given: Mapping[str, str], where: str, findings: ValidationReport) -> None:
    """Report names of `--splits` that are in the name of no annotation file."""
    for own in sorted(given.keys() - {_named(file)[0] for file in files}):
        findings.error("--splits", f"{where}: no annotation file of split '{own}'")


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
    if match is None:
        return "", ""
    return match["split"].casefold(), match["year"] or ""


def _image_folder(root: Path, split: str, year: str, findings: ValidationReport, file: Path | None = None) -> str:
    """The folder of a split's images: called like its annotation file, like the split, or by another name for it."""
    usual = f"{split}{year}"
    own = usual if file is None else file.stem.removeprefix("instances_")
    for folder in (own, f"images/{own}", usual, f"images/{usual}", *_other_spellings(root, split, year)):
        if (root / folder).is_dir():
            return folder
        target = _link_in_words(root, folder)
        if target:
            findings.warn("a folder of images is a file that names another folder, which was used", f"{root / folder}")
            return target
    common = root / "images"
    if split == WHOLE:
        return "images" if common.is_dir() else ""
    if common.is_dir() and not any(_is_of_a_split(folder) for folder in common.iterdir()):
        return "images"  # one folder for all splits
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


def _is_of_a_split(folder: Path) -> bool:
    """Whether a folder is named after a split, with or without a year: `val2017`."""
    match = _NAME.fullmatch(folder.name)
    return match is not None and known_split(match["split"]) is not None


def _link_in_words(root: Path, folder: str) -> str | None:
    """The folder below `root` that a small file in the place of `folder` names: git's form of a link it cannot make."""
    file = root / folder
    if not file.is_file() or file.stat().st_size > LONGEST_LINK:
        return None
    try:
        named = file.read_bytes().decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not named.isprintable():
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(folder), named))
    inside = target.partition("/")[0] not in ("", ".", "..") and (root / target).is_dir()
    if inside and (root / target).resolve().is_relative_to(root.resolve()):
        return target
    return None


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
