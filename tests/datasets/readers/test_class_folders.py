"""Class folders, as literal trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrec.datasets.readers.class_folders import read_folders
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.utils.errors import DataError, ValidationReport


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def read(root: Path) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_folders(root, ReadOptions(), findings), findings


def test_a_photograph_in_several_class_folders_is_one_sample(tmp_path: Path) -> None:
    root = tree(tmp_path, {"dog/a.jpg": "one", "cat/a.jpg": "one", "cat/b.jpg": "two", "bus/b.jpg": "owt", "x.jpg": ""})
    reading, findings = read(root)
    (manifest,) = reading.manifests
    assert (manifest.split, manifest.labels) == ("all", ("bus", "cat", "dog"))
    assert dict(zip(manifest.images, manifest.targets.tolist(), strict=True)) == {
        "bus/b.jpg": [1, 0, 0],
        "cat/a.jpg": [0, 1, 1],
        "cat/b.jpg": [0, 1, 0],
    }
    assert reading.footnotes[0].startswith("1 image occurs in multiple class folders")
    assert findings.warnings == ["images outside the class folders were not used: x.jpg"]


def test_equal_content_under_two_names_is_a_warning(tmp_path: Path) -> None:
    reading, findings = read(tree(tmp_path, {"cat/a.jpg": "one", "dog/b.jpg": "one"}))
    assert len(reading.manifests[0]) == 2
    assert "identical images with different names have different labels" in findings.warnings[0]


def test_folders_of_splits(tmp_path: Path) -> None:
    files = {"train/cat/a.jpg": "1", "valid/dog/b.jfif": "2", "test/cat/c.JPE": "3", "extra/d.jpg": "4"}
    reading, findings = read(tree(tmp_path, files))
    assert {m.split: m.images for m in reading.manifests} == {
        "train": ("train/cat/a.jpg",),
        "val": ("valid/dog/b.jfif",),
        "test": ("test/cat/c.JPE",),
    }
    assert {m.labels for m in reading.manifests} == {("cat", "dog")}
    assert findings.warnings == ["images outside the class folders were not used: extra/d.jpg"]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert read(tree(tmp_path, {"train/a.jpg": "1", "bus/b.jpg": "2"}))[0].manifests[0].labels == ("bus", "train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train/cat/a.jpg", "bus/b.jpg"], "is not, so these folders may be splits or classes"),
        (["train/a.jpg", "test/b.jpg"], "no class folders found"),
        (["a.jpg"], "no images in class folders"),
        (["cat/a.heic"], "no images in class folders"),
    ],
)
def test_what_is_ambiguous_or_empty_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tree(tmp_path, dict.fromkeys(files, "")))


def test_names_that_differ_in_case_alone_and_files_that_are_not_taken(tmp_path: Path) -> None:
    files = {
        "Cat/a.jpg": "1",
        "cat/b.jpg": "2",
        "cat/sub/c.jpg": "3",
        "cat/d.heic": "",
        "cat/.x/e.jpg": "",
        "none/t.txt": "",
    }
    _, findings = read(tree(tmp_path, files))
    assert "folder names 'Cat' and 'cat' differ only in case" in findings.errors[0]
    text = "\n".join(findings.warnings)
    assert "2 files have no image extension (1 .heic, 1 .txt)" in text
    assert "images in subfolders of a class folder were assigned to that class" in text
    assert f"folders without images were not used as labels: {tmp_path}/none" in text
