"""Annotated objects in a dataset: boxes and masks.

The objects are read from the annotations used to prepare the dataset.

Objects are needed for AP by object size and for heat map localization. A manifest contains only image-level labels, so
the annotation files listed in `dataset.json` must still exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.coco import Category, Id, Image, annotated_path, categories
from mlrec.datasets.readers.json_file import read_json
from mlrec.datasets.readers.voc import annotation_of
from mlrec.datasets.readers.voc_xml import Annotation, read_annotation
from mlrec.utils.errors import DataError, ValidationReport


@dataclass(frozen=True, eq=False)
class Objects:
    """The K annotated objects in one image that have a box and a label in the manifest.

    Attributes:
        ids: (K,) array of annotation ids, or -1 if there is no id (COCO), or of object positions in the file, counted
            from 1 (VOC).
        labels: (K,) array with the position of each object's label in the labels of the manifest.
        boxes: (K, 4) array of boxes as x, y, width, height in pixels of the stored image, counted from 0.
        areas: (K,) array of areas in square pixels: the annotated area, or the area of the box if no area is annotated.
        crowd: (K,) bool array: True if the annotation is a region with many objects (COCO).
        difficult: (K,) bool array: True if the object is annotated as difficult to recognize (VOC).
        size: Annotated width and height of the stored image, or None.
        segmentations: Annotated segmentations of the K objects as JSON; `null` for an object without a segmentation.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.intp]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    size: tuple[int, int] | None
    segmentations: tuple[msgspec.Raw, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def mask(self, k: int) -> NDArray[np.bool_]:
        """Return the (H, W) mask of object `k` in the stored image.

        If no segmentation is annotated, the mask covers the box of the object.

        Raises:
            DataError: The segmentation is invalid, or the image size is not annotated.
        """
        if self.size is None:
            raise DataError(
                f"annotation {self.ids[k]}: the mask cannot be computed without the image size; add width and height "
                "to the image's entry in the annotation file"
            )
        width, height = self.size
        segmentation = msgspec.json.decode(self.segmentations[k])
        if not segmentation:
            left, top, right, bottom = _corners(self.boxes[k], width, height)
            inside = np.zeros((height, width), dtype=np.bool_)
            inside[top:bottom, left:right] = True
            return inside
        try:
            return _decoded(segmentation, width, height)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
            raise DataError(f"annotation {self.ids[k]}: invalid segmentation ({error})") from error


class _ObjectAnnotation(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Id
    id: Id | None = None
    bbox: Annotated[list[float], msgspec.Meta(min_length=4, max_length=4)] | None = None
    area: float | None = None
    iscrowd: int = 0
    segmentation: msgspec.Raw = msgspec.Raw(b"null")


class _ObjectsFile(msgspec.Struct):
    images: list[Image]
    annotations: list[_ObjectAnnotation]
    categories: list[Category]


def load_objects(dataset: Dataset, split: str) -> list[Objects]:
    """Load the annotated objects of each sample in `split`, in the order of the manifest.

    Raises:
        DataError: The source has no annotated objects (for example, a CSV file), or its annotation files are missing or
            have changed.
    """
    manifest = dataset.manifest(split)
    source = dataset.info.source
    findings = ValidationReport()
    if source.get("format") == "voc":
        objects = _voc(manifest, findings)
    elif source.get("format") == "coco":
        annotated = [source.get("annotated_names", {}).get(image, image) for image in manifest.images]
        as_annotated = replace(manifest, images=tuple(annotated))
        objects = _coco(as_annotated, Path(source["annotations"][split]), source["folders"][split], findings)
    else:
        kind = source.get("kind", "unknown")
        raise DataError(
            f"{dataset.path}: a dataset of kind '{kind}' has no annotated objects; use a COCO dataset, or a VOC "
            "dataset with the folders Annotations and JPEGImages"
        )
    findings.raise_errors(f"{dataset.path}: invalid objects (prepare the dataset again)", "")
    return objects


def _voc(manifest: Manifest, findings: ValidationReport) -> list[Objects]:
    column = {label: k for k, label in enumerate(manifest.labels)}
    objects = []
    for image in manifest.images:
        file = manifest.root / annotation_of(image)
        annotation = read_annotation(file, manifest.root, findings)
        if annotation is not None:
            objects.append(_of_voc(annotation, column))
    return objects


def _of_voc(annotation: Annotation, column: dict[str, int]) -> Objects:
    known = [(k, thing) for k, thing in enumerate(annotation.objects, 1) if thing.label in column and thing.corners]
    corners = np.array([thing.corners for _, thing in known], dtype=np.float64).reshape(-1, 4)
    # VOC corners are 1-based, and the second corner is inside the box
    boxes = np.concatenate([corners[:, :2] - 1, corners[:, 2:] - corners[:, :2] + 1], axis=1)
    return Objects(
        ids=np.array([k for k, _ in known], dtype=np.int64),
        labels=np.array([column[thing.label] for _, thing in known], dtype=np.intp),
        boxes=boxes,
        areas=boxes[:, 2] * boxes[:, 3],
        crowd=np.zeros(len(known), dtype=np.bool_),
        difficult=np.array([thing.difficult for _, thing in known], dtype=np.bool_),
        size=annotation.size,
        segmentations=(msgspec.Raw(b"null"),) * len(known),
    )


def _coco(manifest: Manifest, path: Path, folder: str, findings: ValidationReport) -> list[Objects]:
    file = read_json(path, _ObjectsFile, findings, forgiven=("bbox", "segmentation", "area"))
    labels, ids = categories(file.categories, path, findings)
    column = {
        key: manifest.labels.index(label) for key, label in zip(ids, labels, strict=True) if label in manifest.labels
    }
    by_image: dict[int, list[_ObjectAnnotation]] = {}
    for annotation in file.annotations:
        if annotation.category_id in column and annotation.bbox is not None:
            by_image.setdefault(annotation.image_id, []).append(annotation)
    images = {annotated_path(folder, image): image for image in file.images}
    objects = []
    for name in manifest.images:
        if name not in images:
            findings.error(f"{path}", f"image '{name}' is no longer in this file; prepare the dataset again")
            continue
        image = images[name]
        size = None
        if image.width and image.height:
            size = int(image.width), int(image.height)
        objects.append(_of_coco(by_image.get(image.id, []), column, size))
    return objects


def _of_coco(annotations: Sequence[_ObjectAnnotation], column: dict[int, int], size: tuple[int, int] | None) -> Objects:
    boxes = np.array([one.bbox for one in annotations], dtype=np.float64).reshape(-1, 4)
    stated = np.array([one.area for one in annotations], dtype=np.float64)  # None becomes NaN
    return Objects(
        ids=np.array([-1 if one.id is None else one.id for one in annotations], dtype=np.int64),
        labels=np.array([column[one.category_id] for one in annotations], dtype=np.intp),
        boxes=boxes,
        areas=np.where(np.isnan(stated), boxes[:, 2] * boxes[:, 3], stated),
        crowd=np.array([one.iscrowd == 1 for one in annotations], dtype=np.bool_),
        difficult=np.zeros(len(annotations), dtype=np.bool_),
        size=size,
        segmentations=tuple(one.segmentation for one in annotations),
    )


def _corners(box: NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
    x, y, w, h = box.tolist()
    left, right = (min(max(round(value), 0), width) for value in (x, x + w))
    top, bottom = (min(max(round(value), 0), height) for value in (y, y + h))
    return left, top, right, bottom


def _decoded(segmentation: Any, width: int, height: int) -> NDArray[np.bool_]:
    """Convert a list of polygons or a run-length encoding, compressed or not, to a mask (H, W)."""
    from pycocotools import mask

    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            raise ValueError("no polygon with three or more points")
        encoded = mask.merge(mask.frPyObjects(polygons, height, width))
    else:
        if segmentation["size"] != [height, width]:
            raise ValueError(f"the size is {segmentation['size']}, but the image size is [{height}, {width}]")
        encoded = segmentation
        if isinstance(segmentation["counts"], list):
            if sum(segmentation["counts"]) != width * height or min(segmentation["counts"]) < 0:
                raise ValueError("the runs do not add up to the image size")
            encoded = mask.frPyObjects(segmentation, height, width)
    decoded: NDArray[np.uint8] = mask.decode(encoded)
    return decoded.astype(np.bool_)
