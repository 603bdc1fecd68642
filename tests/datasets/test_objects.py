"""Boxes and masks, read again by sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.objects import load_objects
from mlrec.utils.errors import DataError
from mlrec.workflows.data.prepare import prepare

WIDTH, HEIGHT = 8, 6
RECTANGLE = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
RECTANGLE[1:4, 2:7] = True


def coco(root: Path, *annotations: dict[str, Any], **size: int) -> Dataset:
    size = size or {"width": WIDTH, "height": HEIGHT}
    images = [{"id": k, "file_name": f"{k}.jpg"} | size for k in (1, 2)]
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    records = [{"id": 10 + k, "image_id": 2, "category_id": 7} | one for k, one in enumerate(annotations)]
    (root / "annotations").mkdir()
    (root / "train2017").mkdir()
    content = {"images": images, "annotations": records, "categories": categories}
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    return prepare("coco", root, out=root / "data", verify=False)


def runs(mask: np.ndarray[Any, Any]) -> list[int]:
    """Uncompressed RLE by hand: lengths of runs down the columns, zeros first."""
    lengths, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return lengths


def compressed(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [HEIGHT, WIDTH], "counts": runs(RECTANGLE)},
        compressed(RECTANGLE),
        [[2, 1, 7, 1, 7, 4, 2, 4]],
        [[2, 1, 7, 1, 7, 2, 2, 2], [2, 2, 7, 2, 7, 4, 2, 4]],
        [],
        None,
    ],
)
def test_masks_of_every_encoding(tmp_path: Path, segmentation: Any) -> None:
    dataset = coco(tmp_path, {"bbox": [2, 1, 5, 3], "segmentation": segmentation})
    (objects,) = load_objects(dataset, "train")
    found = objects.mask(0)
    assert (found.dtype, found.shape) == (np.bool_, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(found, RECTANGLE)


def test_objects_belong_to_their_sample(tmp_path: Path) -> None:
    dataset = coco(
        tmp_path,
        {"bbox": [0, 0, 2, 3], "area": 5.5, "iscrowd": 1},
        {"bbox": [1, 1, 2, 2], "image_id": 1, "category_id": 3},
        {"bbox": [4, 4, 1, 1]},
    )
    first, second = load_objects(dataset, "train")
    assert dataset.manifest("train").images == ("train2017/1.jpg", "train2017/2.jpg")
    assert (len(first), len(second)) == (1, 2)
    assert (first.ids.tolist(), first.labels.tolist(), first.areas.tolist()) == ([11], [0], [4])
    assert (second.ids.tolist(), second.labels.tolist(), second.areas.tolist()) == ([10, 12], [1, 1], [5.5, 1])
    assert second.crowd.tolist() == [True, False]
    assert second.boxes.tolist() == [[0, 0, 2, 3], [4, 4, 1, 1]]
    assert second.size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ({"size": [HEIGHT, WIDTH], "counts": [10**12]}, "do not add up"),
        ({"size": [HEIGHT, WIDTH], "counts": [-4, HEIGHT * WIDTH + 4]}, "do not add up"),
        ({"size": [10**6, 10**6], "counts": "abc"}, "but the image size is"),
        ([[1, 2, 3, 4]], "no polygon with three or more points"),
        ([["a"] * 6], "invalid segmentation"),
        ({"counts": []}, "invalid segmentation"),
        (7, "invalid segmentation"),
    ],
)
def test_a_segmentation_that_cannot_be_used_names_its_annotation(tmp_path: Path, segmentation: Any, said: str) -> None:
    (objects,) = load_objects(coco(tmp_path, {"bbox": [2, 1, 5, 3], "segmentation": segmentation}), "train")
    with pytest.raises(DataError, match=said) as caught:
        objects.mask(0)
    assert str(caught.value).startswith("annotation 10: ")


def test_a_mask_needs_the_size_of_its_image(tmp_path: Path) -> None:
    (objects,) = load_objects(coco(tmp_path, {"bbox": [2, 1, 5, 3]}, width=0, height=0), "train")
    with pytest.raises(DataError, match="the mask cannot be computed without the image size"):
        objects.mask(0)


def test_a_box_is_four_numbers(tmp_path: Path) -> None:
    dataset = coco(tmp_path, {"bbox": [2, 1, 5]})
    with pytest.raises(DataError, match=r"annotations\[0\]\.bbox"):
        load_objects(dataset, "train")


def test_boxes_of_voc_count_from_one_and_include_both_corners(realdata: Path, tmp_path: Path) -> None:
    dataset = prepare("voc2007", realdata / "voc" / "VOCdevkit", out=tmp_path, verify=False)
    manifest = dataset.manifest("test")
    objects = load_objects(dataset, "test")
    assert len(objects) == len(manifest)
    first = objects[manifest.images.index("JPEGImages/000002.jpg")]
    assert first.boxes.tolist() == [[138, 199, 69, 102]]
    assert first.areas.tolist() == [69 * 102]
    assert first.mask(0).sum() == 69 * 102
    assert manifest.labels[first.labels[0]] == "train"
    for targets, found in zip(manifest.targets, objects, strict=True):
        assert set(found.labels[~found.difficult]) == set(np.flatnonzero(targets == 1))


def test_a_source_without_objects_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("filename,dog\n1.jpg,1\n")
    dataset = prepare("csv", tmp_path / "a.csv", out=tmp_path / "data", verify=False)
    with pytest.raises(DataError, match="kind 'csv' has no annotated objects"):
        load_objects(dataset, "all")
