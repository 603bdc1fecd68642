"""Several VOC years in one devkit, and class lists without XML, as literal trees and with VOC2007's own files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mlrec.datasets.objects import load_objects
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.voc import LABELS, read_voc2007
from mlrec.datasets.readers.voc_custom import read_own_voc, recognizes
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.workflows.data.prepare import prepare
from tests.datasets.readers.test_voc_custom import tree, xml


def read(root: Path, **options: Any) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_own_voc(root, ReadOptions(**options), findings), findings


def devkit(root: Path) -> Path:
    tree(
        root / "VOC2007",
        {"1": xml("dog"), "2": xml("cat?"), "3": xml("dog", "cat"), "4": xml("bird")},
        {"train": "1", "val": "2", "trainval": "1 2", "test": "3 4"},
    )
    tree(
        root / "VOC2012",
        {"1": xml("cat"), "2": xml("dog")},
        {"train": "1", "val": "2", "trainval": "1 2", "test": "9 8"},
    )
    return root


def names(reading: Reading) -> dict[str, list[str]]:
    return {m.split: [image.replace("/JPEGImages/", ":") for image in m.images] for m in reading.manifests}


def test_years_are_joined_and_the_unlabelled_test_set_is_not(tmp_path: Path) -> None:
    reading, findings = read(devkit(tmp_path))
    assert names(reading) == {
        "train": ["VOC2007:1.jpg", "VOC2012:1.jpg"],
        "val": ["VOC2007:2.jpg", "VOC2012:2.jpg"],
        "trainval": ["VOC2007:1.jpg", "VOC2007:2.jpg", "VOC2012:1.jpg", "VOC2012:2.jpg"],
        "test": ["VOC2007:3.jpg", "VOC2007:4.jpg"],
    }
    trainval = next(m for m in reading.manifests if m.split == "trainval")
    assert trainval.labels == LABELS
    assert trainval.root == tmp_path
    dog, cat = LABELS.index("dog"), LABELS.index("cat")
    assert trainval.targets[:, [dog, cat]].tolist() == [[1, 0], [0, -1], [0, 1], [1, 0]]
    assert reading.stated_sizes["VOC2012/JPEGImages/1.jpg"] == (40, 30)
    assert findings.warnings == ["lists of images without annotations were skipped: test of VOC2012"]
    assert reading.name == "voc2007-2012"
    assert recognizes(tmp_path) == "it contains VOC2007, VOC2012"


def test_objects_of_joined_years_are_read_from_the_folder_of_their_year(tmp_path: Path) -> None:
    dataset = prepare("voc", devkit(tmp_path / "VOCdevkit"), out=tmp_path / "data", verify=False)
    objects = load_objects(dataset, "trainval")
    dog, cat = LABELS.index("dog"), LABELS.index("cat")
    assert [one.labels.tolist() for one in objects] == [[dog], [cat], [cat], [dog]]
    assert [one.difficult.tolist() for one in objects] == [[False], [True], [False], [False]]


def test_one_year_alone_is_that_year_with_its_twenty_classes(tmp_path: Path) -> None:
    shutil.rmtree(devkit(tmp_path) / "VOC2012")
    reading, _ = read(tmp_path)
    assert (reading.name, reading.manifests[0].labels) == ("voc2007", LABELS)
    assert recognizes(tmp_path) is None  # that is kind voc2007


def test_an_own_folder_below_and_folders_of_splits_are_found(tmp_path: Path) -> None:
    tree(tmp_path / "a/pets", {"1": xml("dog")})
    reading, _ = read(tmp_path / "a")
    assert reading.manifests[0].images == ("JPEGImages/1.jpg",)
    for split in ("train", "valid"):
        tree(tmp_path / "b" / split, {"1": xml("dog" if split == "train" else "cat")})
    reading, findings = read(tmp_path / "b")
    assert not findings.errors
    assert {m.split: (m.images, m.targets.tolist()) for m in reading.manifests} == {
        "train": (("train/JPEGImages/1.jpg",), [[0, 1]]),
        "val": (("valid/JPEGImages/1.jpg",), [[1, 0]]),
    }


def lists(root: Path, **content: str) -> Path:
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for name, lines in content.items():
        (root / f"ImageSets/Main/{name}.txt").write_text(lines)
        for line in lines.splitlines():
            (root / f"JPEGImages/{line.split()[0]}.png").touch()
    return root


def test_class_lists_alone_are_labels(tmp_path: Path) -> None:
    root = lists(
        tmp_path, dog_train="a  1\nb -1\nc  0\n", cat_train="a -1\nb  1\nc -1\n", dog_val="d 1\n", cat_val="d 0\n"
    )
    reading, findings = read(root)
    assert (findings.errors, findings.warnings) == ([], [])
    assert {m.split: dict(zip(m.images, m.targets.tolist(), strict=True)) for m in reading.manifests} == {
        "train": {"JPEGImages/a.png": [0, 1], "JPEGImages/b.png": [1, 0], "JPEGImages/c.png": [0, -1]},
        "val": {"JPEGImages/d.png": [-1, 1]},
    }
    assert {m.labels for m in reading.manifests} == {("cat", "dog")}
    assert recognizes(root) == "ImageSets/Main contains class lists"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"dog_train": "a 1\n", "cat_train": "b 1\n"}, "has no line for"),
        ({"dog_train": "a 1\n", "cat_val": "a 1\n", "dog_val": "a 1\n"}, "split 'train' has no list for class 'cat'"),
        ({"dog_train": "a 2\n"}, "line 1: 'a 2' is not an image name followed by 1, -1 or 0"),
        ({"dog_train": "a 1\na -1\n"}, "a occurs twice with different values"),
    ],
)
def test_class_lists_that_do_not_fit_are_errors(tmp_path: Path, content: dict[str, str], message: str) -> None:
    _, findings = read(lists(tmp_path, **content))
    with pytest.raises(DataError, match=message):
        findings.raise_errors("", "")


def test_class_lists_of_voc2007_give_the_targets_of_its_xml(realdata: Path, tmp_path: Path) -> None:
    source = realdata / "voc/VOCdevkit/VOC2007"
    expected = read_voc2007(source, ReadOptions(), ValidationReport())
    root = tmp_path / "VOC2007"
    shutil.copytree(source / "ImageSets", root / "ImageSets")
    (root / "JPEGImages").symlink_to(source / "JPEGImages")
    findings = ValidationReport()
    reading = read_voc2007(tmp_path, ReadOptions(), findings)
    assert not findings.errors
    truth = {m.split: dict(zip(m.images, m.targets.tolist(), strict=True)) for m in expected.manifests}
    assert {m.labels for m in reading.manifests} == {LABELS}
    assert len(reading.manifests) > 1
    for manifest in reading.manifests:
        assert dict(zip(manifest.images, manifest.targets.tolist(), strict=True)) == truth[manifest.split]


def test_unspecified_difficult_is_a_warning(tmp_path: Path) -> None:
    content = xml("dog?").replace("<difficult>1</difficult>", "<difficult>Unspecified</difficult>")
    reading, findings = read(tree(tmp_path, {"a": content, "b": xml("cat")}))
    assert reading.manifests[0].targets.tolist() == [[0, 1], [1, 0]]
    assert [line for line in findings.warnings if "Unspecified'; the object was read as not difficult" in line]
    _, findings = read(tree(tmp_path, {"a": content.replace("Unspecified", "maybe")}))
    assert "<difficult> is 'maybe', but must be 0 or 1" in findings.errors[0]
