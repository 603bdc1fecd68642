"""Which files and folders of a COCO dataset are read, and what is said about the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlrec.datasets.readers.coco import read_coco
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.utils.errors import ValidationReport


def write(file: Path, image: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image_record = {"id": 1, "file_name": image, "width": 8, "height": 8}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    file.write_text(json.dumps({"images": [image_record], "annotations": [annotation], "categories": categories}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        write(tmp_path / f"annotations/instances_{split}2017.json", f"{split}.jpg")
        (tmp_path / f"{split}2017").mkdir()
    return tmp_path


def read(root: Path, **options: object) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_coco(root, ReadOptions(**options), findings), findings  # type: ignore[arg-type]


def test_files_that_are_no_split_are_a_warning_and_those_of_other_tasks_are_not(root: Path) -> None:
    _, findings = read(root)
    assert not [line for line in findings.warnings if "were not used" in line]
    for name in ("captions_train2017.json", "person_keypoints_val2017.json", "image_info_test2017.json", ".x.json"):
        (root / "annotations" / name).write_text("{}")
    _, findings = read(root)
    assert not [line for line in findings.warnings if "were not used" in line]
    for name in ("instances_extra2017.json", "more/instances_test2017.json", "instances_test2017.JSON"):
        write(root / "annotations" / name, "x.jpg")
    reading, findings = read(root)
    unused = [line for line in findings.warnings if "were not used" in line]
    assert len(unused) == 1
    assert "3 times" in unused[0]
    assert [manifest.split for manifest in reading.manifests] == ["train", "val"]


def test_names_of_splits_that_no_annotation_file_has_are_an_error(root: Path) -> None:
    own = (root / "annotations/instances_val2017.json",)
    for options in ({}, {"annotations": own}):
        _, findings = read(root, split_names={"minival": "test", "val": "val"}, **options)
        assert len(findings.errors) == 1
        assert "no annotation file for split 'minival'" in findings.errors[0]
    reading, findings = read(root, split_names={"val": "test"}, annotations=own)
    assert not findings.errors
    assert [manifest.split for manifest in reading.manifests] == ["test"]


@pytest.mark.parametrize("folder", ["valid2017", "images/valid2017"])
def test_images_are_in_the_folder_that_is_called_like_the_annotation_file(root: Path, folder: str) -> None:
    (root / "annotations/instances_val2017.json").rename(root / "annotations/instances_valid2017.json")
    (root / "Validation2017").mkdir()  # another set of images of the same split
    (root / folder).mkdir(parents=True)
    reading, _ = read(root)
    assert reading.manifests[1].images == (f"{folder}/val.jpg",)


def test_a_split_that_an_option_renames_keeps_its_folder_of_images(root: Path) -> None:
    (root / "annotations/instances_val2017.json").rename(root / "annotations/instances_minival2017.json")
    (root / "minival2017").mkdir()
    reading, findings = read(root, split_names={"minival": "test"})
    assert not findings.errors
    assert {manifest.split: manifest.images for manifest in reading.manifests} == {
        "train": ("train2017/train.jpg",),
        "test": ("minival2017/val.jpg",),
    }


def test_images_in_one_folder_for_all_splits_are_found_without_a_warning(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / f"annotations/{split}.json", f"site/cam/{split}.jpg")
        image = tmp_path / f"images/site/cam/{split}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    reading, findings = read(tmp_path)
    assert (findings.errors, findings.warnings) == ([], [])
    images = [manifest.images for manifest in reading.manifests]
    assert images == [("images/site/cam/train.jpg",), ("images/site/cam/val.jpg",)]
