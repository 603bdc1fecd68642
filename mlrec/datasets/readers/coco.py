"""Reader for COCO annotations, with one JSON file per split.

The layouts of the official archives and of export tools are supported, as well as custom files.

An image is positive for a category if it has at least one annotation of this category. Crowd annotations also make an
image positive. Labels without an annotation are negative. LVIS is an exception: a label without an annotation is
negative only if it is listed as a verified negative for the image, and otherwise unknown. Labels are sorted by category
id. For COCO 2014 and 2017, images without any annotation are skipped by default, as in the paper; for other sources,
they are kept. In COCO 2014, 82,081 of 82,783 training images and 40,137 of 40,504 validation images have annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest
from mlrec.datasets.readers.coco_layout import Part, find_parts
from mlrec.datasets.readers.json_file import read_json
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.samples import ImageFinder
from mlrec.utils.errors import DataError, ValidationReport, counted
from mlrec.utils.names import clean_label, duplicates_in

EMPTY = "images without any annotation"
STORAGE = ("images/v1/", "images/v2/")  # storage folders of Objects365
MAY_BE_NAN = ("bbox", "segmentation", "area")  # image labels do not depend on these fields

Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Image(msgspec.Struct, frozen=True, gc=False):
    """Entry in `images`, with the fields that the reader uses.

    In LVIS, the entry of an image has `coco_url` instead of `file_name`, and a list of verified negatives.
    """

    id: Id
    file_name: str | None = None
    width: float | None = None
    height: float | None = None
    coco_url: str | None = None
    neg_category_ids: tuple[Id, ...] | None = None


class Category(msgspec.Struct, frozen=True, gc=False):
    """Entry in `categories`, with the fields that the reader uses."""

    id: Id
    name: str
    supercategory: str | None = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Id
    id: Id | None = None


class _CocoFile(msgspec.Struct):
    images: list[Image]
    annotations: list[_Annotation]
    categories: list[Category]


@dataclass(frozen=True)
class _Split:
    """Content of one file.

    Attributes:
        manifest: All images and all categories in the file.
        annotated: (N,) whether an image has an annotation.
        group: Label of the category that only groups other categories, if it exists and has no annotation.
        sizes: Annotated width and height, by image.
        annotated_names: Annotated name of each image that was found under a different name.
    """

    manifest: Manifest
    annotated: NDArray[np.bool_]
    group: str | None
    sizes: dict[str, tuple[int, int]]
    annotated_names: dict[str, str]


def read_coco(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read a COCO dataset, by default in the layout of the official archives.

    The annotation files are `path/annotations/instances_<split><year>.json`, and the images are in `path/<split><year>`
    or below `path/images`.

    Other layouts are also supported. Roboflow exports have one annotation file in each split folder. In LVIS and
    Objects365, the file names end with the split name. CVAT exports a single file, `instances_default.json`. `path` can
    also be an annotation file. For a custom dataset, `options.annotations` are the annotation files, `options.splits`
    are their splits, and images are below `options.images` (default: `path`).

    Raises:
        DataError: There is no annotation file, there are multiple years and `options.year` is not set, or there is no
            file for `options.year`. A file that cannot be read is reported in `findings`.
        UsageError: A split of a custom annotation file is missing, invalid or repeated, or `options.splits` is set
            without `options.annotations`.
    """
    name, parts = find_parts(path, options, findings)
    splits: list[_Split] = []
    footnotes: list[str] = []
    left_out = 0
    for part in parts:
        try:
            file = read_json(part.file, _CocoFile, findings, forgiven=MAY_BE_NAN)
        except DataError as error:
            findings.errors.append(str(error))
            continue
        splits.append(_split(name, part, file, findings))
        del file  # frees a third of a gigabyte before the next file is read
    without_group = _without_group([split.manifest for split in splits], [split.group for split in splits], findings)
    manifests: list[Manifest] = []
    for part, split, manifest in zip(parts, splits, without_group, strict=False):  # after errors there are no splits
        empty = int(np.count_nonzero(~split.annotated))
        if empty and part.is_official and not options.keep_empty:
            footnotes.append(
                f"{manifest.split}: images without annotations are skipped, as in the paper ({empty:,} of "
                f"{counted(len(manifest), 'image')}); use --keep-empty to keep them"
            )
            left_out += empty
            manifest = manifest.subset(np.flatnonzero(split.annotated))
        manifests.append(manifest)
    source = {
        "kind": "coco",
        "path": str(path.absolute()),
        "format": "coco",
        "annotations": {part.split: str(part.file.absolute()) for part in parts},
        "folders": {part.split: part.folder for part in parts},
        "annotated_names": {image: name for split in splits for image, name in split.annotated_names.items()},
    }
    sizes = {image: size for split in splits for image, size in split.sizes.items()}
    skipped = {}
    if left_out:
        skipped[EMPTY] = left_out
    return Reading(name, manifests, source, skipped, sizes, footnotes=footnotes)


def annotated_path(folder: str, image: Image) -> str:
    """Return the path of an image relative to the root, as annotated and without checks.

    For LVIS, the path is taken from the URL.

    Example:
        >>> annotated_path("train2017", Image(9, "000000000009.jpg"))
        'train2017/000000000009.jpg'
        >>> annotated_path("", Image(9, coco_url="http://images.cocodataset.org/train2017/000000000009.jpg"))
        'train2017/000000000009.jpg'
    """
    if image.file_name is not None:
        name = image.file_name
    else:
        name = "/".join(urlsplit(image.coco_url or "").path.split("/")[-2:])
    if folder:
        name = f"{folder}/{name}"
    return name


def _without_group(
    manifests: Sequence[Manifest], groups: Iterable[str | None], findings: ValidationReport
) -> list[Manifest]:
    """Remove the category that groups all others from the manifests if no annotation has this category."""
    names = set(groups)
    group = next(iter(names), None)
    if len(names) != 1 or group is None:
        return list(manifests)
    findings.warn("a category that only groups other categories was not used as a label", group)
    return [manifest.with_labels([label for label in manifest.labels if label != group]) for manifest in manifests]


def _split(name: str, part: Part, file: _CocoFile, findings: ValidationReport) -> _Split:
    """Read all images in one file, their annotated sizes, and whether each image has an annotation."""
    images = _images(file.images, part, findings)
    labels, category_ids = categories(file.categories, part.file, findings)
    paths, annotated_names = _paths(images, part, findings)
    for path in duplicates_in(paths):
        findings.error(
            f"{part.file}", f"{path} has two image ids, so its labels are split between them; keep only one id"
        )
    targets = np.zeros((len(images), len(labels)), dtype=np.int8)
    annotated = np.zeros(len(images), dtype=np.bool_)
    if images and labels:
        rows, columns = _places(file.annotations, [image.id for image in images], category_ids, part, findings)
        if any(image.neg_category_ids is not None for image in images):
            targets = _verified_negatives(images, category_ids, part, findings)
        targets[rows, columns] = POSITIVE
        annotated[rows] = True
    manifest = Manifest(name, part.split, part.root, tuple(labels), tuple(paths), targets)
    sizes = {
        path: (int(image.width), int(image.height))
        for path, image in zip(paths, images, strict=True)
        if image.width and image.height
    }
    group = _group(file, labels, category_ids)
    return _Split(manifest, annotated, group, sizes, annotated_names)


def _paths(images: Sequence[Image], part: Part, findings: ValidationReport) -> tuple[list[str], dict[str, str]]:
    """Return the image files below the root, and the annotated names of files that are named differently."""
    finder = ImageFinder(part.root, findings)
    paths, annotated_names = [], {}
    for k, image in enumerate(images):
        place = f"{part.file}: images[{k}] (id {image.id})"
        where = f"{place}: file_name"
        name = annotated_path("", image)
        if not name:
            findings.error(place, "both 'file_name' and 'coco_url' are missing; add 'file_name'")
        names = [name]
        if finder.exists(part.folder):  # Objects365 file names contain storage folders that are not in the archives
            names += [name.removeprefix(prefix) for prefix in STORAGE if name.startswith(prefix)]
        path = finder.find(names, where, (part.folder, ""))
        if path != annotated_path(part.folder, image):
            annotated_names[path] = annotated_path(part.folder, image)
        paths.append(path)
    return paths, annotated_names


def _verified_negatives(
    images: Sequence[Image], category_ids: Sequence[int], part: Part, findings: ValidationReport
) -> NDArray[np.int8]:
    """Return initial targets, which are negative only if verified.

    A target is negative if the image lists the category in `neg_category_ids`, otherwise unknown.
    """
    column = {category: k for k, category in enumerate(category_ids)}
    targets = np.full((len(images), len(category_ids)), UNKNOWN, dtype=np.int8)
    for row, image in enumerate(images):
        for category in image.neg_category_ids or ():
            if category in column:
                targets[row, column[category]] = NEGATIVE
            else:
                what = f'neg_category_ids contains {category}, which is not in "categories"; add this category'
                findings.error(f"{part.file}: image with id {image.id}", what)
    return targets


def _group(file: _CocoFile, labels: Sequence[str], category_ids: Sequence[int]) -> str | None:
    """Return the label of category 0 if it only groups the other categories (Roboflow).

    Category 0 is such a group if it is the supercategory of all others and has no annotation.
    """
    by_id = {category.id: category for category in file.categories}
    others = [category for category in by_id.values() if category.id != 0]
    if 0 not in by_id or not others or any(other.supercategory != by_id[0].name for other in others):
        return None
    if any(annotation.category_id == 0 for annotation in file.annotations):
        return None
    return labels[category_ids.index(0)]


def _images(images: Sequence[Image], part: Part, findings: ValidationReport) -> list[Image]:
    """Return the images, without duplicate records."""
    if not images:
        findings.error(
            f"{part.file}", f"\"images\" is empty, so split '{part.split}' has no images; add images or remove the file"
        )
    by_id: dict[int, Image] = {}
    for k, image in enumerate(images):
        earlier = by_id.setdefault(image.id, image)
        if earlier is image:
            continue
        if earlier == image:
            findings.warn("duplicate records were merged", f"{part.file}: images[{k}] (id {image.id})")
        else:
            findings.error(
                f"{part.file}: images[{k}]", f"id {image.id} occurs twice with different content; keep only one entry"
            )
    return list(by_id.values())


def categories(entries: Sequence[Category], file: Path, findings: ValidationReport) -> tuple[list[str], list[int]]:
    """Return the label names and category ids, in ascending order of the ids."""
    by_id: dict[int, Category] = {}
    for k, entry in enumerate(entries):
        if (earlier := by_id.setdefault(entry.id, entry)) is entry:
            continue
        if earlier.name == entry.name:
            findings.warn("duplicate records were merged", f"{file}: categories[{k}] ('{entry.name}')")
        else:
            findings.error(
                f"{file}: categories[{k}]", f"id {entry.id} occurs twice with different names; keep only one entry"
            )
    ids = sorted(by_id)
    labels = [clean_label(by_id[key].name, f"{file}: category {key}", findings) for key in ids]
    if not labels:
        findings.error(f"{file}", '"categories" is empty; list the labels in "categories"')
    for label in duplicates_in(labels):
        findings.error(f"{file}: categories", f"two categories are named '{label}'; rename one")
    return labels, ids


def _places(
    annotations: Sequence[_Annotation],
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    part: Part,
    findings: ValidationReport,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the row and column of each annotation; references to missing images or categories are errors."""
    count = len(annotations)
    rows, known_image = _positions(np.fromiter((a.image_id for a in annotations), np.int64, count), image_ids)
    columns, known_category = _positions(
        np.fromiter((a.category_id for a in annotations), np.int64, count), category_ids
    )
    for known, key, home in ((known_image, "image_id", "images"), (known_category, "category_id", "categories")):
        for k in np.flatnonzero(~known).tolist():
            found = annotations[k]
            where = f"{part.file}: annotations[{k}]"
            if found.id is not None:
                where += f" (id {found.id})"
            findings.error(
                where,
                f'{key} {getattr(found, key)} is not in "{home}"; add this id to "{home}" or remove the annotation',
            )
    _check_ids(annotations, part, findings)
    known = known_image & known_category
    return rows[known], columns[known]


def _positions(ids: NDArray[np.int64], known: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the index of each of `ids` in `known`, and whether the id exists."""
    order = np.argsort(known, kind="stable")
    ordered = np.asarray(known, dtype=np.int64)[order]
    places = np.minimum(np.searchsorted(ordered, ids), len(ordered) - 1)
    return order[places], ordered[places] == ids


def _check_ids(annotations: Sequence[_Annotation], part: Part, findings: ValidationReport) -> None:
    """Warn about annotation ids that are not unique. Labels do not depend on them."""
    ids = [found.id for found in annotations if found.id is not None]
    if len(set(ids)) == len(ids):
        return
    first: dict[int, _Annotation] = {}
    for k, found in enumerate(annotations):
        if found.id is not None and first.setdefault(found.id, found) is not found:
            where = f"{part.file}: annotations[{k}] (id {found.id})"
            findings.warn("annotation ids are not unique; all annotations were used", where)
