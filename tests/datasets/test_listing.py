"""What paths name which images, in what order; boxes by CSV."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mlrec.datasets.listing import boxes_of, items_of
from mlrec.datasets.manifest import Manifest
from mlrec.utils.errors import DataError, UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b/2.JPG", "b/10.png", "b/notes.txt", "b/.hidden.jpg", "a.jpeg", "b/c/x.webp", "odd"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*paths: str) -> list[str]:
    return [item.id for item in items_of(paths)]


def test_paths_keep_their_order_and_folders_are_read_by_name(folder: Path) -> None:
    assert names("odd", "b", "a.jpeg") == ["odd", "b/10.png", "b/2.JPG", "b/c/x.webp", "a.jpeg"]
    assert names("b/*.png", "**/*.webp") == ["b/10.png", "b/c/x.webp"]
    assert names(str(folder / "*.jpeg")) == [str(folder / "a.jpeg")]
    assert names("a.jpeg", "a.jpeg") == ["a.jpeg", "a.jpeg"]


def test_missing_paths_are_reported_before_the_first_image(folder: Path) -> None:
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe")
    for path, text in (
        ("none.jpg", "no such file"),
        ("pipe", "not a regular file"),
        ("empty", "no image"),
        ("*.tif", "no image"),
    ):
        with pytest.raises(UsageError, match=text):
            items_of(["a.jpeg", path])


def test_samples_of_a_manifest_keep_ids_and_boxes(tmp_path: Path) -> None:
    boxes = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]])
    targets = np.zeros((2, 1), np.int8)
    manifest = Manifest(
        "w", "test", tmp_path, ("hat",), ("x.jpg", "x.jpg"), targets, sample_ids=("x.jpg#0", "x.jpg#2"), boxes=boxes
    )
    manifest.save(tmp_path / "test.jsonl")
    items = list(items_of([str(tmp_path / "test.jsonl")]))
    assert [(item.id, item.path, item.box) for item in items] == [
        ("x.jpg#0", tmp_path / "x.jpg", (1, 2, 3, 4)),
        ("x.jpg#2", tmp_path / "x.jpg", (5, 6, 7, 8)),
    ]


def test_boxes_by_csv(tmp_path: Path) -> None:
    file = tmp_path / "boxes.csv"
    file.write_text("filename,x,y,width,height,id\na.jpg,0,1,2,3,first\na.jpg,-4,1,20.5,3,\nb.jpg,0,0,1,1,\n")
    items = boxes_of(file)
    assert [(item.id, item.path.name) for item in items] == [
        ("first", "a.jpg"),
        ("a.jpg#1", "a.jpg"),
        ("b.jpg#0", "b.jpg"),
    ]
    assert items[1].box == (-4, 1, 20.5, 3)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("filename,x,y,w,h\na,1,1,1,1\n", "the header does not contain width, height"),
        ("filename,x,y,width,height\na,1,1,one,1\n", "line 2, column 'width': 'one' is not a number"),
        ("filename,x,y,width,height\na,1,1,0,1\n", "line 2: the box is empty"),
        ("filename,x,y,width,height\na,nan,1,1,1\n", "a number is NaN or infinite"),
    ],
)
def test_invalid_boxes_are_refused(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "boxes.csv").write_text(content)
    with pytest.raises(DataError, match=told):
        boxes_of(tmp_path / "boxes.csv")
