"""COCO: one JSON file a split, in the layout of the official archives or as a single own file.

An image is positive for every category that any of its annotations has, crowds included; nothing is unknown. Labels
stand in ascending order of category ids. Images without any annotation are left out, as the paper does
(82,081 of 82,783 and 40,137 of 40,504 images of 2014 remain), unless they are to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import POSITIVE, Manifest, clean_label, duplicates_in
from mlrec.datasets.names import image_name
from mlrec.datasets.readers.coco_layout import Part, find_parts
from mlrec.datasets.readers.json_file import read_json
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.utils.errors import DataError, ValidationReport, counted, printable

EMPTY = "images without any annotation"
MAY_BE_NAN = ("bbox", "segmentation", "area")  # an image's labels do not depend on these

Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Image(msgspec.Struct, frozen=True, gc=False):
    """What is read of an entry of `images`."""

    id: Id
    file_name: str
    width: float | None = None
    height: float | None = None


class Category(msgspec.Struct, frozen=True, gc=False):
    """What is read of an entry of `categories`."""

    id: Id
    name: str


class _Annotation(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Id
    id: Id | None = None


class _CocoFile(msgspec.Struct):
    images: list[Image]
    annotations: list[_Annotation]
    categories: list[Category]


def read_coco(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read `path/annotations/instances_<split><year>.json`, with images in `path/<split><year>` or below `path/images`.

    Of an own dataset the files `options.annotations` are read, each as one of `options.splits`, with their images
    below `options.images` (default: `path`).

    Raises:
        DataError: no annotation file, several years and none chosen, a file that cannot be read.
    """
    name, parts = find_parts(path, options, findings)
    manifests: list[Manifest] = []
    sizes: dict[str, tuple[int, int]] = {}
    footnotes: list[str] = []
    left_out = 0
    for part in parts:
        try:
            file = read_json(part.file, _CocoFile, findings, forgiven=MAY_BE_NAN)
        except DataError as error:
            findings.errors.append(str(error))
            continue
        manifest, stated, annotated = _manifest(name, part, file, findings)
        del file  # a third of a gigabyte, before the next one comes
        empty = int(np.count_nonzero(~annotated))
        if empty and not options.keep_empty:
            footnotes.append(
                f"{part.split}: {empty:,} of {counted(len(manifest), 'image')} have no annotation and are left "
                f"out, as in the "
                "paper; --keep-empty keeps them"
            )
            left_out += empty
            manifest = manifest.subset(np.flatnonzero(annotated))
        manifests.append(manifest)
        sizes |= stated
    source = {
        "kind": "coco",
        "path": str(path.absolute()),
        "format": "coco",
        "annotations": {part.split: str(part.file.absolute()) for part in parts},
        "folders": {part.split: part.folder for part in parts},
    }
    return Reading(name, manifests, source, {EMPTY: left_out} if left_out else {}, sizes, footnotes=footnotes)


def image_path(folder: str, file_name: str, where: str, findings: ValidationReport) -> str:
    """The path below the root of an image that `images` names `file_name`."""
    name = image_name(file_name, where, findings)
    return f"{folder}/{name}" if folder else name


def _manifest(
    name: str, part: Part, file: _CocoFile, findings: ValidationReport
) -> tuple[Manifest, dict[str, tuple[int, int]], NDArray[np.bool_]]:
    """All images of one file, the sizes it states, and which images have an annotation."""
    images = _images(file.images, part, findings)
    labels, category_ids = categories(file.categories, part.file, findings)
    paths = [
        image_path(part.folder, image.file_name, f"{part.file}: images[{k}] (id {image.id}): file_name", findings)
        for k, image in enumerate(images)
    ]
    for path in duplicates_in(paths):
        findings.error(f"{part.file}", f"{printable(path)} stands under two image ids, which splits its labels")
    targets = np.zeros((len(images), len(labels)), dtype=np.int8)
    annotated = np.zeros(len(images), dtype=np.bool_)
    if images and labels:
        rows, columns = _places(file.annotations, [image.id for image in images], category_ids, part, findings)
        targets[rows, columns] = POSITIVE
        annotated[rows] = True
    manifest = Manifest(name, part.split, part.root, tuple(labels), tuple(paths), targets)
    sizes = {
        path: (int(image.width), int(image.height))
        for path, image in zip(paths, images, strict=True)
        if image.width and image.height
    }
    return manifest, sizes, annotated


def _images(images: Sequence[Image], part: Part, findings: ValidationReport) -> list[Image]:
    """The images, those that stand there twice once."""
    if not images:
        findings.error(f"{part.file}", f"\"images\" is empty: no images in split '{part.split}'")
    by_id: dict[int, Image] = {}
    for k, image in enumerate(images):
        earlier = by_id.setdefault(image.id, image)
        if earlier is image:
            continue
        if earlier == image:
            findings.warn("identical records were taken once", f"{part.file}: images[{k}] (id {image.id})")
        else:
            findings.error(f"{part.file}: images[{k}]", f"id {image.id} stands twice with other content; keep one")
    return list(by_id.values())


def categories(entries: Sequence[Category], file: Path, findings: ValidationReport) -> tuple[list[str], list[int]]:
    """Label names and category ids, in ascending order of the ids."""
    by_id: dict[int, Category] = {}
    for k, entry in enumerate(entries):
        if (earlier := by_id.setdefault(entry.id, entry)) is entry:
            continue
        if earlier == entry:
            findings.warn("identical records were taken once", f"{file}: categories[{k}] ('{entry.name}')")
        else:
            findings.error(f"{file}: categories[{k}]", f"id {entry.id} stands twice with other names; keep one")
    ids = sorted(by_id)
    labels = [clean_label(by_id[key].name, f"{file}: category {key}", findings) for key in ids]
    if not labels:
        findings.error(f"{file}", '"categories" is empty; it must name the labels')
    for label in duplicates_in(labels):
        findings.error(f"{file}: categories", f"'{printable(label)}' is the name of two categories; rename one")
    return labels, ids


def _places(
    annotations: Sequence[_Annotation],
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    part: Part,
    findings: ValidationReport,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column of each annotation; one that points nowhere is an error."""
    count = len(annotations)
    rows, known_image = _positions(np.fromiter((a.image_id for a in annotations), np.int64, count), image_ids)
    columns, known_category = _positions(
        np.fromiter((a.category_id for a in annotations), np.int64, count), category_ids
    )
    for known, key, home in ((known_image, "image_id", "images"), (known_category, "category_id", "categories")):
        for k in np.flatnonzero(~known).tolist():
            found = annotations[k]
            where = f"{part.file}: annotations[{k}]" + (f" (id {found.id})" if found.id is not None else "")
            findings.error(
                where, f'{key} {getattr(found, key)} is not in "{home}"; add it there or remove the annotation'
            )
    _check_ids(annotations, part, findings)
    known = known_image & known_category
    return rows[known], columns[known]


def _positions(ids: NDArray[np.int64], known: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where each of `ids` stands in `known`, and whether it stands there at all."""
    order = np.argsort(known, kind="stable")
    ordered = np.asarray(known, dtype=np.int64)[order]
    places = np.minimum(np.searchsorted(ordered, ids), len(ordered) - 1)
    return order[places], ordered[places] == ids


def _check_ids(annotations: Sequence[_Annotation], part: Part, findings: ValidationReport) -> None:
    ids = [found.id for found in annotations if found.id is not None]
    if len(set(ids)) == len(ids):
        return
    first: dict[int, _Annotation] = {}
    for k, found in enumerate(annotations):
        if found.id is None or first.setdefault(found.id, found) is found:
            continue
        where = f"{part.file}: annotations[{k}]"
        if first[found.id] == found:
            findings.warn("an annotation id stands twice, for one image and category", f"{where} (id {found.id})")
        else:
            findings.error(where, f"id {found.id} stands twice with other content; keep one")
