"""Reader for PASCAL VOC: XML annotations, and one image list per split.

Targets are created by `voc_xml.targets_of`; if all objects of a class in an image are difficult, the class is unknown.
The training settings and the metric conventions determine how unknown labels are used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.image_paths import is_image
from mlrec.datasets.manifest import UNKNOWN, Manifest
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.voc_class_lists import ANNOTATIONS, IMAGES, LISTS, has_no_annotations, read_class_lists
from mlrec.datasets.readers.voc_xml import Annotation, read_annotation, targets_of
from mlrec.datasets.split_names import USUAL, known_split, resolve_names, usual_order
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.files import read_text
from mlrec.utils.names import duplicates_in, image_name

LABELS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_YEAR = re.compile(r"VOC(19|20)\d\d")


def recognizes_voc2007(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as VOC2007, otherwise None.

    If the devkit also contains other years, the result is None.
    """
    return _recognizes(path, "VOC2007")


def recognizes_voc2012(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as VOC2012, otherwise None.

    If the devkit also contains other years, the result is None.
    """
    return _recognizes(path, "VOC2012")


def read_voc2007(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read VOC2007 from the folder `VOC2007` or from its parent folder (the devkit).

    Without `Annotations`, the labels are read from the class lists in `ImageSets/Main`.

    Raises:
        DataError: VOC2007 was not found.
    """
    root = year_folder(path, "VOC2007")
    if has_no_annotations(root):
        return read_class_lists(root, "voc2007", options, findings, labels=LABELS)
    manifests, sizes = read_year("voc2007", root, LABELS, findings)
    source = {"kind": "voc2007", "path": str(path.absolute()), "format": "voc"}
    return Reading("voc2007", manifests, source, stated_sizes=sizes)


def read_voc2012(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read VOC2012 in the same way as VOC2007.

    The test images of VOC2012 have no public labels: all labels are unknown, and the images can be used for prediction.

    Raises:
        DataError: VOC2012 was not found.
    """
    root = year_folder(path, "VOC2012")
    if has_no_annotations(root):
        return read_class_lists(root, "voc2012", options, findings, labels=LABELS)
    manifests, sizes = read_year("voc2012", root, LABELS, findings, unlabelled=("test",))
    source = {"kind": "voc2012", "path": str(path.absolute()), "format": "voc"}
    return Reading("voc2012", manifests, source, stated_sizes=sizes)


def year_folders(path: Path) -> list[Path]:
    """Return the folders of VOC years (`VOC2007`, ...) with image lists.

    The result is `path` itself, or the year folders in the devkit.

    Example:
        >>> year_folders(Path("no such folder"))
        []
    """
    for folders in ([path], sorted(path.glob("VOC*")), sorted((path / "VOCdevkit").glob("VOC*"))):
        years = [folder for folder in folders if _YEAR.fullmatch(folder.absolute().name)]
        listed = [folder for folder in years if (folder / LISTS).is_dir()]
        if listed:
            return listed
    return []


def _recognizes(path: Path, year: str) -> str | None:
    names = [folder.absolute().name for folder in year_folders(path)]
    return f"{year} contains {LISTS}" if names == [year] else None


def year_folder(path: Path, year: str) -> Path:
    """Return the folder of a VOC year, which contains `ImageSets/Main`.

    The folder is `path`, `path/<year>` or `path/VOCdevkit/<year>`.

    Raises:
        DataError: None of these folders contains `ImageSets/Main`.
    """
    for folder in (path, path / year, path / "VOCdevkit" / year):
        if (folder / LISTS).is_dir() and not _is_other_year(folder.absolute().name, year):
            return folder.absolute()
    raise DataError(
        f"{path}: {year} was not found, because neither {LISTS} nor {year}/{LISTS} exists; specify the VOCdevkit folder"
    )


def _is_other_year(name: str, year: str) -> bool:
    """Return whether a folder has the name of another VOC year; all years have the same layout."""
    return name != year and _YEAR.fullmatch(name) is not None


def read_year(
    name: str,
    root: Path,
    labels: Sequence[str],
    findings: ValidationReport,
    *,
    unlabelled: Collection[str] = (),
    skipped: Collection[str] = (),
) -> tuple[list[Manifest], dict[str, tuple[int, int]]]:
    """Return one manifest for each split that has an image list, and the annotated image sizes.

    Args:
        name: Name of the dataset.
        root: Folder that contains `Annotations`, `ImageSets` and `JPEGImages`.
        labels: Classes, in the order of the target columns.
        findings: Report that receives errors and warnings.
        unlabelled: Splits in which images may have no annotation. All labels of such images are unknown, with a
            warning.
        skipped: Splits that are not read.
    """
    lists = read_lists(root / LISTS, findings, lambda name: (root / ANNOTATIONS / f"{name}.xml").exists())
    lists = {split: images for split, images in lists.items() if split not in skipped}
    needed = {image for split, images in lists.items() if split not in unlabelled for image in images}
    annotations: dict[str, Annotation] = {}
    for image in dict.fromkeys(image for images in lists.values() for image in images):
        file = root / ANNOTATIONS / f"{image}.xml"
        if image not in needed and not file.exists():
            findings.warn(
                "labels of images without annotations were set to unknown; use these images only for prediction", image
            )
        elif annotation := read_annotation(file, root, findings):
            annotations[image] = annotation
    targets = {image: targets_of(annotation, labels, findings) for image, annotation in annotations.items()}
    if findings.errors:
        return [], {}
    nothing_known = [UNKNOWN] * len(labels)
    manifests = [
        Manifest(
            name=name,
            split=split,
            root=root,
            labels=tuple(labels),
            images=tuple(f"{IMAGES}/{image}.jpg" for image in images),
            targets=target_array([targets.get(image, nothing_known) for image in images], labels),
        )
        for split, images in lists.items()
    ]
    sizes = {f"{IMAGES}/{image}.jpg": found.size for image, found in annotations.items() if found.size}
    return manifests, sizes


def read_lists(
    folder: Path,
    findings: ValidationReport,
    is_known: Callable[[str], bool],
    *,
    own: bool = False,
    given: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
    """Return the image names of each split, read from `<split>.txt`.

    If a usual VOC list is absent, a warning is added.

    Args:
        folder: Folder of the lists.
        findings: Report that receives errors and warnings.
        is_known: Function that returns whether an annotation with a given name exists. It is used to parse lines such
            as `a.jpg` or `a 1`.
        own: Whether the dataset is custom. The lists of a custom dataset may have other names than in VOC; these
            names are converted by `split_names`.
        given: Split names from `--splits`; see `split_names.parse_names`.

    Raises:
        DataError: There are no image lists.
    """
    found = split_lists(folder, given or {})
    files = [file for file in found if known_split(file.stem) or file.stem.casefold() in (given or {})]
    if own and not files:
        files = found
    for file in found:
        if own and file not in files:
            kind = "lists whose names are not split names were skipped; map them to splits with --splits LIST=val,..."
            findings.warn(kind, str(file))
    if not files:
        raise DataError(
            f"{folder}: the folder contains none of {', '.join(f'{split}.txt' for split in USUAL)}; add one of "
            "these lists"
        )
    names = resolve_names({file.stem: str(file) for file in files}, given or {}, findings)
    lists: dict[str, list[str]] = {}
    for file in files:
        split = names[file.stem]
        lists[split] = list(dict.fromkeys(lists.get(split, []) + _list(file, split, findings, is_known)))
    for split in USUAL:
        if not own and split not in lists:
            findings.warn(f"split '{split}' is absent because its list is missing", f"{folder / split}.txt")
    return dict(sorted(lists.items(), key=lambda item: usual_order(item[0])))


def split_lists(folder: Path, given: Mapping[str, str]) -> list[Path]:
    """Return the image lists of splits, without class lists such as `cat_train.txt` next to `train.txt`."""
    files = sorted(folder.glob("[!.]*.txt"), key=lambda file: usual_order(file.stem))
    splits = {known_split(file.stem) for file in files} - {None}
    return [
        file
        for file in files
        if file.stem.casefold() in given
        or known_split(file.stem.rpartition("_")[2]) not in splits
        or "_" not in file.stem
    ]


def _list(file: Path, split: str, findings: ValidationReport, is_known: Callable[[str], bool]) -> list[str]:
    lines = [(number, line.strip()) for number, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]
    if not lines:
        findings.error(f"{file}", f"no images in split '{split}'; add images to the list or remove the file")
    names = []
    for number, line in lines:
        faults = len(findings.errors)
        name = image_name(_stem_of(line, is_known), f"{file}: line {number}", findings)
        if len(findings.errors) == faults:  # a name outside the folder must not become a path
            names.append(name)
    for name in duplicates_in(names):
        findings.warn("images that are listed twice were used only once", f"{file}: {name}")
    return list(dict.fromkeys(names))


def _stem_of(line: str, is_known: Callable[[str], bool]) -> str:
    """Return the annotation name of a line.

    The line is `a`, `a.jpg`, or either of these followed by a second column (`a -1`).
    """
    if _is_plain(line) and is_known(line):
        return line
    first = re.sub(r"\s+-?[01]$", "", line)
    for name in (line, first):
        if is_image(name) and _is_plain(name):
            return name.removesuffix(Path(name).suffix)
    return first


def _is_plain(name: str) -> bool:
    """Return whether a name stays inside its folder, so that it is safe to look for the file."""
    return not name.startswith("/") and ".." not in name.split("/") and "\0" not in name


def annotation_of(image: str) -> str:
    """Return the path of an image's XML file: the image folder in the path is replaced by `Annotations`.

    The image folder is `JPEGImages` at any depth. If the path does not contain `JPEGImages`, the first folder in the
    path is the image folder.

    Example:
        >>> annotation_of("VOC2007/JPEGImages/cam1/000001.jpg")
        'VOC2007/Annotations/cam1/000001.xml'
    """
    parts = image.rpartition(".")[0].split("/")
    place = parts.index(IMAGES) if IMAGES in parts else 0
    return "/".join((*parts[:place], ANNOTATIONS, *parts[place + 1 :])) + ".xml"


def target_array(rows: Sequence[Sequence[int]], labels: Sequence[str]) -> NDArray[np.int8]:
    """Convert rows of targets to an (N, C) array; N may be 0."""
    return np.array(rows, dtype=np.int8).reshape(-1, len(labels))
