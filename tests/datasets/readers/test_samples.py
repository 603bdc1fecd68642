"""From a name in an annotation to the file that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrec.datasets.readers.samples import RENAMED, ImageFinder
from mlrec.utils.errors import ValidationReport

FILES = ("images/train/a.jpg", "images/val/a.jpg", "images/train/b.png", "caf\u00e9.jpg", "deep/down/c.JPG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "folders", "file", "warns"),
    [
        ("images/val/a.jpg", ("",), "images/val/a.jpg", False),
        ("./val\\a.jpg", ("images", ""), "images/val/a.jpg", False),
        ("a.jpg", ("images/train", ""), "images/train/a.jpg", False),
        ("b", ("images/train", ""), "images/train/b.png", False),  # without ending is common
        ("b", ("",), "images/train/b.png", True),
        ("/home/me/val/a.jpg", ("",), "images/val/a.jpg", True),
        ("C:\\me\\down\\c.jpg", ("",), "deep/down/c.JPG", True),  # the case of the extension does not matter
        ("cafe\u0301.jpg", ("",), "caf\u00e9.jpg", True),
        ("a.jpg", ("images/val", "images/train"), "images/val/a.jpg", False),
        ("none.jpg", ("images", ""), "images/none.jpg", False),  # reported when images are verified
    ],
)
def test_names(root: Path, name: str, folders: tuple[str, ...], file: str | None, warns: bool) -> None:
    findings = ValidationReport()
    found = ImageFinder(root, findings).find(name, "labels.txt: line 1", folders)
    assert (found == file) is (file is not None)
    assert bool(findings.errors) is (file is None)
    assert any(line.startswith(RENAMED) for line in findings.warnings) is warns


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.jpg", "labels.txt: line 1: 'a.jpg' matches 2 images (images/train/a.jpg, images/val/a.jpg)"),
        ("../a.jpg", "is outside the image directory"),
        ("/etc/passwd.jpg", "is an absolute path that matches no image below"),
        ("a\x1b.jpg", "contains a control character"),
        ("", "is empty"),
        ("x" * 5000, "is too long for a file name"),
    ],
)
def test_what_is_not_one_file_inside_is_an_error(root: Path, name: str, message: str) -> None:
    findings = ValidationReport()
    ImageFinder(root, findings).find(name, "labels.txt: line 1")
    assert message in findings.errors[0]
