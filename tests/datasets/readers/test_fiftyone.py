"""FiftyOne's image classification export, as literal files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlrec.datasets.readers.fiftyone import read_fiftyone, recognizes
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.utils.errors import DataError, ValidationReport


def write(folder: Path, content: Any) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "labels.json").write_text(json.dumps(content))
    for name in content["labels"]:
        (folder / "data" / f"{name}.jpg").touch()


def read(path: Path) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_fiftyone(path, ReadOptions(), findings), findings


def test_numbers_of_classes_in_their_order_and_null_is_unknown(tmp_path: Path) -> None:
    labels = {"a": [0, 2], "b": [], "c": 1, "d": None, "e": [{"label": "ant", "confidence": 0.9}]}
    write(tmp_path / "x", {"classes": ["zebra", "cat", "ant"], "labels": labels})
    reading, findings = read(tmp_path / "x")
    (manifest,) = reading.manifests
    assert (manifest.split, manifest.labels) == ("all", ("zebra", "cat", "ant"))
    assert manifest.images == tuple(f"data/{name}.jpg" for name in "abcde")
    assert manifest.targets.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [-1, -1, -1], [0, 0, 1]]
    assert [line.partition(":")[0] for line in findings.warnings] == [
        "labels of images without annotations were set to unknown"
    ]
    assert "labels.json has the keys" in str(recognizes(tmp_path / "x"))


def test_texts_without_classes_and_folders_of_splits(tmp_path: Path) -> None:
    write(tmp_path / "train", {"classes": None, "labels": {"a": ["dog", "cat"]}})
    write(tmp_path / "validation", {"classes": None, "labels": {"a": "bird"}})
    reading, findings = read(tmp_path)
    assert not findings.errors
    assert [(m.split, m.labels, m.images) for m in reading.manifests] == [
        ("train", ("bird", "cat", "dog"), ("train/data/a.jpg",)),
        ("val", ("bird", "cat", "dog"), ("validation/data/a.jpg",)),
    ]
    assert [m.targets.tolist() for m in reading.manifests] == [[[0, 1, 1]], [[1, 0, 0]]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([3], "labels['a']: 3 is not the index of one of the 2 classes"),
        ([-1], "-1 is not the index"),
        (["cow"], "label 'cow' is not in 'classes'"),
        ([True], "label 'True' is not in 'classes'"),
        ({"x": 1}, "is not in 'classes'"),
    ],
)
def test_what_is_no_label_is_an_error(tmp_path: Path, value: Any, message: str) -> None:
    write(tmp_path / "x", {"classes": ["cat", "dog"], "labels": {"a": value}})
    _, findings = read(tmp_path / "x")
    assert message in findings.errors[0]


def test_a_folder_without_labels_json_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no labels\.json found"):
        read(tmp_path)
