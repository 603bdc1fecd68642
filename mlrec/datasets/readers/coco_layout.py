"""Layout of COCO files: the split of each annotation file, and the folder of its images."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlrec.datasets.image_paths import Omitted, files_below
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.datasets.readers.samples import first_bytes
from mlrec.datasets.split_names import WHOLE, known_split, resolve_names, usual_order
from mlrec.utils.errors import DataError, UsageError, ValidationReport, counted
from mlrec.utils.files import folder_of
from mlrec.utils.names import SPLIT_NAME, duplicates_in

EXPECTED = ("train", "val")
LONGEST_LINK = 4096  # maximum length of a path in bytes
OFFICIAL = re.compile(r"instances_(train|val)(2014|2017)")  # the paper skips images without labels in these files
_OTHER_TASK = re.compile(r"(captions|person_keypoints|panoptic|stuff|.*image_info)_", re.IGNORECASE)
_NAME = re.compile(r"(?P<split>.+?)[_-]?(?P<year>\d{4})?")
_START = re.compile(rb'\s*\{\s*"(info|images|annotations|categories|licenses)"\s*:\s*[\[{]')


@dataclass(frozen=True)
class Part:
    """Split of a COCO dataset, with its annotation file, root and image folder.

    `folder` is the image folder relative to `root`; an empty string means `root` itself.
    """

    split: str
    file: Path
    root: Path
    folder: str

    @property
    def is_official(self) -> bool:
        """Return whether the file has the name of a COCO 2014 or 2017 file."""
        return OFFICIAL.fullmatch(self.file.stem) is not None


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as a dataset in COCO format, otherwise None."""
    files = [path]
    if path.is_dir():
        files = _annotation_files(path)
    for file in files:
        if file.suffix.lower() == ".json" and _START.match(first_bytes(file)):
            return f"{file.relative_to(folder_of(path))} has the keys of COCO annotations"
    return None


def _annotation_files(path: Path) -> list[Path]:
    """Return the JSON files in the usual folders: `annotations`, the folder itself, and split folders."""
    places = [
        path / "annotations",
        path,
        *(folder for folder in sorted(path.glob("[!.]*")) if known_split(folder.name)),
    ]
    files = (file for place in places for file in sorted(place.glob("[!.]*.json")))
    return [file for file in files if not _OTHER_TASK.match(file.name)]


def find_parts(path: Path, options: ReadOptions, findings: ValidationReport) -> tuple[str, list[Part]]:
    """Return the default name of the dataset and its splits.

    Raises:
        DataError: There is no annotation file, there are multiple years and `options.year` is not set, there is no
            file for `options.year`, or the split of a file is unknown.
        UsageError: A split of a custom annotation file is missing, invalid or repeated, or `options.splits` is set
            without `options.annotations`.
    """
    if options.annotations:
        _check_names(options.annotations, options.split_names, "--annotations", findings)
        return _own_parts(path, options)
    if options.splits:
        raise UsageError(
            "--split can only be used with --annotations, because the files of a COCO folder define the splits; "
            "omit --split"
        )
    if path.is_file():
        return _own_parts(_home(path.absolute()), replace(options, annotations=(path,)))
    folder = path / "annotations"
    if not folder.is_dir():
        folder = path
    years = _years(folder, options.split_names, findings)
    if not years:
        return _parts_of_tools(path, options, findings)
    if len(years) > 1 and options.year is None:
        raise DataError(
            f"{folder}: the folder contains files for multiple years ({', '.join(sorted(years))}); choose a year "
            "with --year"
        )
    year = options.year or next(iter(years))
    if year not in years:
        raise DataError(
            f"{folder}: the folder has no files for year '{year}'; choose one of {', '.join(sorted(years))}"
        )
    _warn_of_other_files(folder, {file for parts in years.values() for file in parts.values()}, findings)
    named_like_official = any(OFFICIAL.fullmatch(file.stem) for file in years[year].values())
    for split in EXPECTED:
        if named_like_official and split not in years[year]:
            missing = f"{folder}/instances_{split}{year}.json"
            findings.warn(f"split '{split}' is absent because its file is missing", missing)
    root = (options.images or path).absolute()
    parts = [
        Part(split, years[year][split], root, _image_folder(root, split, year, findings, years[year][split]))
        for split in sorted(years[year], key=usual_order)
    ]
    if year:
        return f"coco{year}", parts
    return path.absolute().name, parts


def _parts_of_tools(path: Path, options: ReadOptions, findings: ValidationReport) -> tuple[str, list[Part]]:
    """Return files not named `<split>.json`, as export tools write them.

    The files are one per split folder, files with names that end with a split, or one file.

    Raises:
        DataError: There is no annotation file, or there are multiple files without a split.
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
                findings.error(str(path / own), f"the folder contains {len(files)} annotation files; keep only one")
        parts = [Part(names[own], files[0], root, own) for own, files in in_folders.items()]
        return path.absolute().name, sorted(parts, key=lambda part: usual_order(part.split))
    files = [file for file in _annotation_files(path) if _START.match(first_bytes(file))]
    by_split: dict[str | None, list[Path]] = {}
    for file in files:
        by_split.setdefault(_last_word(file, options.split_names), []).append(file.absolute())
    # The split in a name such as instances_minival2017.json can be resolved only with --splits.
    if len(files) == 1 and None in by_split and not files[0].stem.startswith("instances_"):
        return path.absolute().name, [Part(WHOLE, files[0].absolute(), root, _image_folder(root, WHOLE, "", findings))]
    unnamed = by_split.pop(None, [])
    if not by_split:
        several = f" (files without a split: {', '.join(file.name for file in unnamed[:3])})" if unnamed else ""
        raise DataError(
            f"{path / 'annotations'}: no instances_train<year>.json or instances_val<year>.json found"
            f"{several}; specify the folder that contains annotations/, or a custom file with --annotations"
        )
    for file in unnamed:
        findings.warn("annotation files without a split were not used", str(file))
    for split, same in by_split.items():
        if len(same) > 1:
            findings.error(
                f"{same[1]}",
                f"the file belongs to the same split '{split}' as {same[0].name}; keep only one of the two files",
            )
    found = [(split, same[0]) for split, same in by_split.items() if split is not None]
    parts = [Part(split, file, root, _folder_of_tools(root, split)) for split, file in found]
    return path.absolute().name, sorted(parts, key=lambda part: usual_order(part.split))


def _last_word(file: Path, given: Mapping[str, str]) -> str | None:
    """Return the split at the end of a file name: `lvis_v1_train`, `zhiyuan_objv2_val`."""
    word = re.split(r"[_\-.]", file.stem)[-1].casefold()
    return given.get(word) or known_split(word)


def _folder_of_tools(root: Path, split: str) -> str:
    """Return the folder of a split's images if it exists. Image names often already contain this folder."""
    return next((folder for folder in _other_spellings(root, split, "") if (root / folder).is_dir()), "")


def _home(file: Path) -> Path:
    """Return the folder of a dataset, from one of its annotation files."""
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def _own_parts(path: Path, options: ReadOptions) -> tuple[str, list[Part]]:
    """Return the custom annotation files, one per split.

    The dataset is named after the file if there is only one, otherwise after the image folder.
    """
    files = options.annotations
    root = (options.images or path).absolute()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; specify the image folder with --images")
    splits = tuple(known_split(split) or split for split in options.splits)
    given = options.split_names
    splits = splits or tuple(_split_of(file, given) or _last_word(file, given) or WHOLE for file in files)
    if len(splits) != len(files):
        raise UsageError(
            f"got {counted(len(files), 'file')} with --annotations, but {counted(len(splits), 'split')} with --split; "
            "pass one --split for each --annotations"
        )
    for split in splits:
        if not SPLIT_NAME.fullmatch(split):
            raise UsageError(f"--split '{split}' is not a split name; use train, val or test")
    if twice := duplicates_in(splits):
        raise UsageError(
            f"two --annotations files have the same split '{twice[0]}'; pass a different --split for each file"
        )
    parts = [Part(split, file, root, "") for split, file in zip(splits, files, strict=True)]
    if len(files) == 1:
        return files[0].stem, parts
    return root.name, parts


def _years(folder: Path, given: Mapping[str, str], findings: ValidationReport) -> dict[str, dict[str, Path]]:
    """Return annotation files by year ("" for none) and split.

    Two files for one split and year are an error.
    """
    files = [file for file in sorted(folder.glob("[!.]*.json")) if _split_of(file, given) is not None]
    years: dict[str, dict[str, Path]] = {}
    for file in files:
        split, year = str(_split_of(file, given)), _named(file)[1]
        other = years.setdefault(year, {}).setdefault(split, file)
        if other != file:
            findings.error(
                f"{file}",
                f"the file belongs to the same split '{split}' as {other.name}; keep only one of the two files",
            )
    _check_names(files, given, str(folder), findings)
    return years


def _check_names(files: Sequence[Path], given: Mapping[str, str], where: str, findings: ValidationReport) -> None:
    """Report names in `--splits` that are not in the name of any annotation file."""
    for own in sorted(given.keys() - {_named(file)[0] for file in files}):
        findings.error("--splits", f"{where}: there is no annotation file for split '{own}'; correct the split name")


def _warn_of_other_files(folder: Path, known: Collection[Path], findings: ValidationReport) -> None:
    """Warn about unused annotation files, except the official files of other tasks."""
    for file in files_below(folder, Omitted()):
        if file.suffix.lower() == ".json" and file not in known and not _OTHER_TASK.match(file.name):
            findings.warn("annotation files without a split were not used", str(file))


def _split_of(file: Path, given: Mapping[str, str]) -> str | None:
    """Return the split that an annotation file is named after."""
    own = _named(file)[0]
    return given.get(own) or known_split(own)


def _named(file: Path) -> tuple[str, str]:
    """Return the split, in lower case, and the year ("" for none) in the name of an annotation file."""
    match = _NAME.fullmatch(file.stem.removeprefix("instances_"))
    if match is None:
        return "", ""
    return match["split"].casefold(), match["year"] or ""


def _image_folder(root: Path, split: str, year: str, findings: ValidationReport, file: Path | None = None) -> str:
    """Return the folder of a split's images.

    The folder is named after the annotation file of the split, the split, or a synonym of the split.
    """
    usual = f"{split}{year}"
    own = usual if file is None else file.stem.removeprefix("instances_")
    for folder in (own, f"images/{own}", usual, f"images/{usual}", *_other_spellings(root, split, year)):
        if (root / folder).is_dir():
            return folder
        target = _link_in_words(root, folder)
        if target:
            findings.warn(
                "a text file was found in place of an image folder; the folder named in the file was used",
                f"{root / folder}",
            )
            return target
    common = root / "images"
    if split == WHOLE:
        return "images" if common.is_dir() else ""
    if common.is_dir() and not any(_is_of_a_split(folder) for folder in common.iterdir()):
        return "images"  # one folder for all splits
    findings.warn(
        f"the image folder of split '{split}' is missing", f"expected {root / usual} or {root / 'images' / usual}"
    )
    return usual


def _other_spellings(root: Path, split: str, year: str) -> list[str]:
    """Return folders below `root` that are named after a synonym of the split.

    Examples are `Validation` and `images/valid2017`.
    """
    folders = [folder for place in (root, root / "images") for folder in sorted(place.glob("[!.]*")) if folder.is_dir()]
    named = [(folder, _NAME.fullmatch(folder.name)) for folder in folders]
    return [
        folder.relative_to(root).as_posix()
        for folder, match in named
        if match and known_split(match["split"]) == split and match["year"] in (year or None, None)
    ]


def _is_of_a_split(folder: Path) -> bool:
    """Return whether a folder is named after a split, with or without a year: `val2017`."""
    match = _NAME.fullmatch(folder.name)
    return match is not None and known_split(match["split"]) is not None


def _link_in_words(root: Path, folder: str) -> str | None:
    """Return the folder below `root` given in a small text file at `folder`.

    Such a file is git's form of a symbolic link.
    """
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
