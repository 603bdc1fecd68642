"""WIDER-Attribute: its schema as literal files, and what strangers make of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.wider import LABELS, read_wider
from mlrec.utils.errors import DataError, ValidationReport

NAMES = ["Male", "longHair", "sunglass", "Hat", "Tshiirt", "longSleeve", "formal", "shorts", "jeans", "longPants"]
NAMES += ["skirt", "faceMask", "logo", "stripe"]
MAN = [1, -1, 0, 1, -1, -1, -1, -1, -1, 1, -1, -1, 0, 0]
WOMAN = [-1, 1, 0, -1, 1, -1, -1, 0, 1, -1, -1, -1, -1, -1]
TRAINVAL: dict[str, Any] = {
    "images": [
        {
            "file_name": "train/0--Parade/a.jpg",
            "scene_id": 0,
            "targets": [{"attribute": MAN, "bbox": [2, 3, 30, 40]}, {"attribute": WOMAN, "bbox": [5.5, 3, 20, 40]}],
        },
        {
            "file_name": "val/1--Handshaking/b.jpg",
            "scene_id": 1,
            "targets": [{"attribute": WOMAN, "bbox": [0, 0, 9, 9]}],
        },
    ],
    "attribute_id_map": {str(k): name for k, name in enumerate(NAMES)},
    "scene_id_map": {"0": "Parade", "1": "Handshaking"},
}
TEST: dict[str, Any] = {
    "images": [
        {"file_name": "test/0--Parade/c.jpg", "scene_id": 0, "targets": [{"attribute": MAN, "bbox": [1, 1, 5, 5]}]}
    ],
    "attribute_id_map": TRAINVAL["attribute_id_map"],
    "scene_id_map": {"0": "Parade"},
}


def tree(root: Path, trainval: Any = TRAINVAL, test: Any = TEST, folder: str = "Annotations") -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for split, content in (("trainval", trainval), ("test", test)):
        if content is not None:
            (root / folder / f"wider_attribute_{split}.json").write_text(json.dumps(content))
    return root


def read(root: Path) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_wider(root, ReadOptions(), findings), findings


def changed(place: list[str | int], value: Any) -> dict[str, Any]:
    content = copy.deepcopy(TRAINVAL)
    inner: Any = content
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return content


@pytest.mark.parametrize("folder", ["Annotations", "wider_attribute_annotation", "Anno", "."])
def test_one_sample_a_person(tmp_path: Path, folder: str) -> None:
    reading, findings = read(tree(tmp_path, folder=folder))
    assert not findings.errors
    splits = {m.split: m for m in reading.manifests}
    assert list(splits) == ["train", "val", "trainval", "test"]
    manifest = splits["trainval"]
    assert manifest.labels == LABELS
    assert manifest.root == tmp_path
    assert manifest.images == ("Image/train/0--Parade/a.jpg",) * 2 + ("Image/val/1--Handshaking/b.jpg",)
    assert manifest.sample_ids == (
        "Image/train/0--Parade/a.jpg#0",
        "Image/train/0--Parade/a.jpg#1",
        "Image/val/1--Handshaking/b.jpg#0",
    )
    assert manifest.boxes is not None
    assert manifest.boxes.tolist() == [[2, 3, 30, 40], [5.5, 3, 20, 40], [0, 0, 9, 9]]
    assert manifest.targets[0].tolist() == [1, 0, -1, 1, 0, 0, 0, 0, 0, 1, 0, 0, -1, -1]
    assert splits["train"].sample_ids == manifest.sample_ids[:2]
    assert splits["val"].sample_ids == manifest.sample_ids[2:]
    assert reading.published == {"trainval": 28_345, "test": 29_179}


def test_without_val_folders_there_is_trainval_alone(tmp_path: Path) -> None:
    only_train = {**TRAINVAL, "images": TRAINVAL["images"][:1]}
    reading, _ = read(tree(tmp_path, trainval=only_train))
    assert [m.split for m in reading.manifests] == ["trainval", "test"]


def test_a_missing_file_is_a_missing_split(tmp_path: Path) -> None:
    reading, findings = read(tree(tmp_path, test=None))
    assert [m.split for m in reading.manifests] == ["train", "val", "trainval"]
    assert "split 'test' is absent" in findings.warnings[0]


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"wider_attribute_trainval\.json"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            ["images", 0, "targets", 1, "attribute"],
            WOMAN[:13],
            r"images\[0\].*targets\[1\]: 13 attributes, expected 14",
        ),
        (["images", 0, "targets", 0, "attribute"], [2, *MAN[1:]], "attribute 'male' is 2; expected 1, -1 or 0"),
        (["images", 1, "targets", 0, "bbox"], [1, 2, 3], "bbox has 3 numbers"),
        (["images", 0, "file_name"], "../x.jpg", "is outside the image directory"),
        (["attribute_id_map", "0"], "Hat", r"attribute_id_map\[0\]: found 'Hat', expected 'male'"),
        (["attribute_id_map", "14"], "beard", r"attribute_id_map\[14\]: found 'beard', expected 14 attributes"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, place: list[str | int], value: Any, message: str) -> None:
    _, findings = read(tree(tmp_path, trainval=changed(place, value)))
    assert len(findings.errors) == 1
    with pytest.raises(DataError, match=message):
        findings.raise_errors("x", "y")


@pytest.mark.parametrize("attribute", [[float("nan"), *MAN[1:]], [True, *MAN[1:]], ["1", *MAN[1:]]])
def test_an_attribute_that_is_no_integer_is_refused(tmp_path: Path, attribute: list[Any]) -> None:
    with pytest.raises(DataError, match="attribute"):
        read(tree(tmp_path, trainval=changed(["images", 0, "targets", 0, "attribute"], attribute)))


def test_an_image_twice(tmp_path: Path) -> None:
    same = {**TRAINVAL, "images": [*TRAINVAL["images"], TRAINVAL["images"][0]]}
    reading, findings = read(tree(tmp_path, trainval=same))
    assert len(reading.manifests[2]) == 3
    assert "duplicate records were merged" in findings.warnings[0]
    other = {"file_name": "train/0--Parade/a.jpg", "targets": [{"attribute": WOMAN, "bbox": [2, 3, 30, 40]}]}
    _, findings = read(tree(tmp_path, trainval={**TRAINVAL, "images": [*TRAINVAL["images"], other]}))
    assert "images[2] (train/0--Parade/a.jpg): the image occurs twice with different targets" in findings.errors[0]
