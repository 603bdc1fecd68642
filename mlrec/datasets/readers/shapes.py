"""The synthetic dataset `shapes`: scenes with boxes and instance masks.

The scenes are drawn once and stored in COCO format. The COCO reader reads this dataset like any other COCO dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlrec.datasets.readers.coco import read_coco
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.scenes import CLASSES, SHAPES, TEXTURES, Scene, draw_scene
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.files import read_own_json, replace_folder, write_json
from mlrec.utils.progress import SILENT, Progress

NAME = "shapes"
IMAGES = {"train": 800, "val": 400}
YEAR = "2014"  # the dataset has the layout of COCO 2014, so that the reader finds files and splits
MARK = "shapes.json"
VERSION = 1  # increase when the drawing changes: folders from a different version are drawn again
QUALITY = 92


def read_shapes(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Draw the dataset into the folder `path` unless it is already there, and read it as COCO.

    A dataset that was drawn with a different seed or version is replaced.

    Raises:
        DataError: `path` contains files that are not part of the dataset.
    """
    draw_shapes(path, seed=options.seed)
    reading = read_coco(path, options, findings)
    return replace(reading, name=NAME, source=reading.source | {"kind": NAME}, footnotes=[])


def draw_shapes(
    path: Path, *, seed: int = 0, images: Mapping[str, int] | None = None, progress: Progress = SILENT
) -> None:
    """Write scenes for train and val as JPEG files, with boxes and RLE masks in COCO JSON files.

    Identical arguments produce identical scenes. Each scene has its own random seed, derived from the seed, the split
    and the scene number. The first scenes do not depend on the number of images. A folder that already contains the
    requested scenes is not changed; a folder with other scenes drawn by mlrec is replaced.

    Args:
        path: Output folder.
        seed: Random seed for the scenes.
        images: Number of images per split. If None, an existing folder keeps its number of images, and a new folder
            gets the number in `IMAGES`.
        progress: Object that shows the progress.

    Raises:
        DataError: The folder contains files that are not part of the dataset.
    """
    path, there = path.absolute(), _mark_of(path)
    counts = dict(images or there.get("images") or IMAGES)
    mark = {"version": VERSION, "seed": seed, "images": counts}
    if there == mark:
        return
    with replace_folder(path) as folder, progress.task("draw scenes", sum(counts.values())) as step:
        for number, (split, count) in enumerate(counts.items()):
            (folder / f"{split}{YEAR}").mkdir()
            records = []
            for k in range(count):
                scene = draw_scene(np.random.default_rng([seed, number, k]))
                records.append(_store(scene, folder / f"{split}{YEAR}", k))
                step()
            write_json(folder / "annotations" / f"instances_{split}{YEAR}.json", _instances(records))
        write_json(folder / MARK, mark)


def _mark_of(path: Path) -> dict[str, Any]:
    """Return the content of `shapes.json` in the folder; empty if there are no scenes to keep."""
    if (path / MARK).is_file():
        try:
            return read_own_json(path / MARK, dict[str, Any], DataError, "draw the scenes again")
        except DataError:
            return {}  # written by mlrec, but damaged
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(
            f"{path}: the path is not a folder written by mlrec prepare {NAME}; specify a new or empty folder"
        )
    return {}


def _store(scene: Scene, folder: Path, number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write the image; return the COCO records of the image and of its objects, without ids."""
    from PIL import Image
    from pycocotools import mask as rle

    name = f"{number:06d}.jpg"
    Image.fromarray(scene.image).save(folder / name, quality=QUALITY)
    height, width = scene.image.shape[:2]
    objects = []
    for thing in scene.objects:
        code = rle.encode(np.asfortranarray(thing.mask, dtype=np.uint8))
        objects.append(
            {
                "category_id": thing.label + 1,
                "bbox": [float(v) for v in rle.toBbox(code)],
                "area": int(rle.area(code)),
                "segmentation": {"size": [height, width], "counts": code["counts"].decode("ascii")},
                "iscrowd": 0,
            }
        )
    return {"file_name": name, "width": width, "height": height}, objects


def _instances(records: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> dict[str, Any]:
    """Return the content of an `instances_*.json`; ids start at 1."""
    annotations = [
        {"image_id": image_id, **thing} for image_id, (_, objects) in enumerate(records, 1) for thing in objects
    ]
    return {
        "info": {"description": f"mlrec {NAME}: synthetic scenes of textured shapes", "version": str(VERSION)},
        "images": [{"id": image_id, **image} for image_id, (image, _) in enumerate(records, 1)],
        "annotations": [{"id": k, **annotation} for k, annotation in enumerate(annotations, 1)],
        "categories": [
            {"id": k + 1, "name": name, "supercategory": TEXTURES[k // len(SHAPES)]} for k, name in enumerate(CLASSES)
        ],
    }
