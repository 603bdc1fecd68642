"""Reader for images in folders that are named after classes: `FOLDER/<class>/<image>`.

Each split can have its own parent folder: `FOLDER/<split>/<class>/<image>`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlrec.datasets.image_paths import Omitted, image_files, is_image
from mlrec.datasets.manifest import POSITIVE, Manifest
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.split_names import WHOLE, known_split, resolve_names, usual_order
from mlrec.utils.errors import DataError, ValidationReport, counted, nearest
from mlrec.utils.files import read_bytes
from mlrec.utils.names import JOINED, clean_label, image_name, joined_name, normal

# Extensions of files that may contain labels, and folders in which other layouts keep images or annotations.
ANNOTATIONS = (
    *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".data", ".names"),
    *(".xls", ".xlsx", ".parquet", ".arrow", ".mat", ".npy", ".npz", ".pkl", ".tar", ".tgz"),
)
NO_CLASSES = ("images", "labels", "annotations", "jpegimages", "imagesets", "data", "image", "img", "imgs", "masks")
NOTES = ("readme", "license", "licence")  # text files that contain no labels
OUTSIDE = "images outside the class folders were not used"


@dataclass(frozen=True)
class _Photograph:
    """One sample: the image, and the classes whose folders contain it."""

    image: str
    classes: tuple[str, ...]


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as class folders, otherwise None.

    A folder without annotation files is recognized if its subfolders contain images and are not named like folders of
    other layouts, such as `images`.
    """
    if not path.is_dir():
        return None
    folders = _visible_folders(path)
    splits = [folder for folder in folders if known_split(folder.name) and not _images_directly_in(folder)]
    splits = [folder for folder in splits if _visible_folders(folder)]  # otherwise it is a class named `test`
    classes = folders
    if splits:
        classes = [inner for folder in splits for inner in _visible_folders(folder)]
    for place in (path, *splits, *classes):
        if any(
            file.suffix.lower() in ANNOTATIONS and not file.name.lower().startswith(NOTES) for file in _files(place)
        ):
            return None
    named = [folder for folder in classes if folder.name.casefold() not in NO_CLASSES and not known_split(folder.name)]
    if len(named) < len(classes) or not any(_images_directly_in(folder) for folder in classes):
        return None
    return f"images are in folders that may be classes (first: '{classes[0].name}')"


def _files(place: Path) -> list[Path]:
    return [file for file in place.iterdir() if not file.name.startswith(".")]


def read_folders(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read class folders; the folder name of an image is its class.

    An image is positive for the class of its folder and negative for all other classes.

    If files in multiple class folders have the same name and content, they are read as one sample with multiple labels.
    If `options.separator` is set, the folder name of an image is split into multiple classes (`beach+sunset`).
    If the class folders are inside folders that are named after splits (such as `train`, `valid` and `test`, or names
    in `--splits`), these folders are the splits. Without split folders, the only split is `all`. Labels are sorted by
    name.

    Raises:
        DataError: The folder does not exist, no class folder contains images, or it is unclear whether the folders are
            classes or splits.
    """
    root = path.absolute()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; specify the folder that contains the class folders")
    omitted = Omitted()
    folders_by_split = _folders_by_split(root, options.split_names, omitted, findings)
    found = {
        split: _images_by_class(folders, options.separator, omitted, findings)
        for split, folders in folders_by_split.items()
    }
    omitted.warn(findings)
    labels = tuple(sorted({label for images in found.values() for label in images}))
    if not labels:
        raise DataError(f"{root}: no images in class folders; expected {root}/<class>/<image>")
    _check_spelling(labels, root, findings)
    joined = joined_name(labels) if options.separator is None else None
    if joined:
        findings.warn(JOINED, f"{joined[0]} (set --separator '{joined[1]}')")
    manifests = []
    for split, images in found.items():
        photographs = _merged(root, images, findings)
        targets = np.zeros((len(photographs), len(labels)), dtype=np.int8)
        for row, photograph in enumerate(photographs):
            targets[row, [labels.index(label) for label in photograph.classes]] = POSITIVE
        names = tuple(photograph.image for photograph in photographs)
        manifests.append(Manifest(root.name, split, root, labels, names, targets))
    reading = Reading(root.name, manifests, {"kind": "folders", "path": str(root)})
    several = sum(int(np.count_nonzero((manifest.targets == POSITIVE).sum(axis=1) > 1)) for manifest in manifests)
    if several and not options.separator:
        reading.footnotes.append(
            f"{counted(several, 'image occurs', 'images occur')} in multiple class folders; each image became one "
            "sample with the labels of all its folders"
        )
    return reading


def read_class_folders(root: Path, classes: Sequence[str]) -> Manifest:
    """Read the images in all class folders as samples with the given `classes`.

    The images are sorted by class, in the order of `classes`, then by name.

    The name of a class folder is the class name (for ImageNet, the WordNet id such as `n01440764`) or the class
    index, counted from 0. The target columns are in the order of `classes`, and each image has one class.

    Raises:
        DataError: The folder does not exist, a folder name is neither a class nor an index, two folders are for the
            same class, or there are no images.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; specify a folder that contains one folder per class")
    findings = ValidationReport()
    folders: dict[int, Path] = {}
    place = {name: k for k, name in enumerate(classes)} | {str(k): k for k in range(len(classes))}
    for folder in _visible_folders(root):
        if folder.name not in place:
            hint = nearest(folder.name, classes) or "; rename the folder"
            findings.error(
                str(folder),
                f"the folder name is neither one of the {counted(len(classes), 'class', 'classes')} "
                f"({classes[0]}, ..., {classes[-1]}) nor a class index{hint}",
            )
        elif place[folder.name] in folders:
            findings.error(
                str(folder),
                f"the folder is for the same class as {folders[place[folder.name]].name}; merge the two folders",
            )
        else:
            folders[place[folder.name]] = folder
    findings.raise_errors(f"{root}: invalid class folders (rename them)", "")
    root = root.absolute()
    found = [
        (image.relative_to(root).as_posix(), label)
        for label, folder in sorted(folders.items())
        for image in image_files(root / folder.name, Omitted())
    ]
    if not found:
        raise DataError(f"{root}: no images in class folders; expected {root}/<class>/<image>")
    targets = np.zeros((len(found), len(classes)), dtype=np.int8)
    targets[np.arange(len(found)), [label for _, label in found]] = 1
    return Manifest(root.name, "all", root, tuple(classes), tuple(name for name, _ in found), targets)


def _visible_folders(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _folders_by_split(
    root: Path, given: Mapping[str, str], omitted: Omitted, findings: ValidationReport
) -> dict[str, list[Path]]:
    """Return the class folders of each split.

    Raises:
        DataError: Folders that are named like splits could also be classes.
    """
    folders = _visible_folders(root)
    holds_images = {folder: _images_directly_in(folder) for folder in folders}
    named = [folder for folder in folders if known_split(folder.name) or folder.name.casefold() in given]
    splits = [folder for folder in named if not holds_images[folder] and _visible_folders(folder)]
    others = [folder for folder in folders if folder not in splits and next(image_files(folder, Omitted()), None)]
    if not splits:
        if named and len(named) == len(others):
            raise DataError(
                f"{root}: no class folders found in the split folders ({', '.join(folder.name for folder in named)}); "
                "use the structure <split>/<class>/<image>"
            )
        _warn_outside(root, _images_directly_in(root), findings)
        return {WHOLE: folders}
    if len(splits) == 1 and any(folder not in named for folder in others):
        other = next(folder for folder in others if folder not in named)
        raise DataError(
            f"{root}: folder '{splits[0].name}' is named like a split, but folder '{other.name}' is not, so these "
            "folders may be splits or classes; move the split folders into a separate folder"
        )
    found: dict[str, list[Path]] = {}
    names = resolve_names({folder.name: str(folder) for folder in splits}, given, findings)
    for folder in sorted(splits, key=lambda folder: usual_order(names[folder.name])):
        found.setdefault(names[folder.name], []).extend(_visible_folders(folder))
    _warn_outside(root, _images_directly_in(root), findings)
    for place in others:
        _warn_outside(root, list(image_files(place, omitted)), findings)
    return found


def _images_directly_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if is_image(file.name) and not file.is_dir())


def _warn_outside(root: Path, files: Sequence[Path], findings: ValidationReport) -> None:
    for file in files:
        findings.warn(OUTSIDE, file.relative_to(root).as_posix())


def _images_by_class(
    folders: Sequence[Path], separator: str | None, omitted: Omitted, findings: ValidationReport
) -> dict[str, list[Path]]:
    """Return the images of each class that has images, sorted by name."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        images = list(image_files(folder, omitted))
        if not images:
            findings.warn("folders without images were not used as labels", str(folder))
            continue
        for image in images:
            if image.parent != folder:
                findings.warn(
                    "images in subfolders of a class folder were assigned to that class",
                    f"{image} has class {folder.name}",
                )
        names = folder.name.split(separator) if separator else [folder.name]
        labels = {clean_label(name, str(folder), findings) for name in map(str.strip, names) if name}
        for label in sorted(labels):
            found.setdefault(label, []).extend(images)
    return found


def _check_spelling(labels: Sequence[str], root: Path, findings: ValidationReport) -> None:
    """Report class names that differ only in case as an error, because they mean the same class."""
    folded: dict[str, str] = {}
    for label in labels:
        other = folded.setdefault(label.casefold(), label)
        if other != label:
            findings.error(
                str(root), f"the folder names '{other}' and '{label}' differ only in case; rename one folder"
            )


def _merged(root: Path, images: dict[str, list[Path]], findings: ValidationReport) -> list[_Photograph]:
    """Return the samples of one split, with duplicate files merged.

    Files with equal name and content are merged, with all their classes.

    Files with equal content but different names are separate samples, with a warning if their labels differ, because
    the same photograph would be both positive and negative for a class.
    """
    identity = _identities(list(dict.fromkeys(file for files in images.values() for file in files)), findings)
    first: dict[tuple[str, str], str] = {}
    classes: dict[tuple[str, str], list[str]] = {}
    for label, files in sorted(images.items()):
        for file in files:
            key = (normal(file.name), identity[file])
            name = file.relative_to(root).as_posix()
            first.setdefault(key, image_name(name, str(file), findings))
            if label not in classes.setdefault(key, []):
                classes[key].append(label)
    photographs = {key: _Photograph(image, tuple(classes[key])) for key, image in first.items()}
    twins: dict[str, _Photograph] = {}
    for (_, content), photograph in photographs.items():
        twin = twins.setdefault(content, photograph)
        if twin.classes != photograph.classes:
            findings.warn(
                "identical images with different names have different labels; give them the same name to merge them",
                f"{twin.image} and {photograph.image}",
            )
    return list(photographs.values())


def _identities(files: Sequence[Path], findings: ValidationReport) -> dict[Path, str]:
    """Return a content key for each file; only files of equal size are read."""
    by_size: dict[int, list[Path]] = {}
    identity: dict[Path, str] = {}
    for file in files:
        identity[file] = str(file)
        try:
            by_size.setdefault(file.stat().st_size, []).append(file)
        except OSError:
            continue  # a broken link: reported when images are decoded
    for file in (file for same in by_size.values() if len(same) > 1 for file in same):
        try:
            identity[file] = hashlib.sha256(read_bytes(file)).hexdigest()
        except DataError as error:
            findings.errors.append(str(error))
    return identity
