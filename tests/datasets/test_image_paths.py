"""The one listing of image files, compared with what Pillow and the file system know."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from mlrec.datasets.image_paths import Omitted, image_files, matching_images, name_below, unused_images, without_dots
from mlrec.datasets.images.decode import FORMATS, SUFFIXES
from mlrec.datasets.listing import items_of
from mlrec.utils.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = (
        "root/b.JPE", "root/a.jfif", "root/c.txt", "root/.thumbnails/t.jpg", "root/deep/er/d.jpg", "store/e.jpg",
        "root/.ipynb_checkpoints/a-checkpoint.jpg",
    )  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "root/linked").symlink_to(tmp_path / "store")
    (tmp_path / "root/linked again").symlink_to(tmp_path / "store")
    (tmp_path / "root/deep/circle").symlink_to(tmp_path / "root")
    (tmp_path / "root/deep/up").symlink_to(tmp_path)
    return tmp_path / "root"


TAKEN = ["a.jfif", "b.JPE", "deep/er/d.jpg", "linked/e.jpg"]


def test_every_ending_that_pillow_knows_of_our_formats_is_an_image() -> None:
    Image.init()
    assert {end for end, kind in Image.registered_extensions().items() if kind in FORMATS} <= set(SUFFIXES)


def test_links_are_followed_once_hidden_folders_skipped_and_what_was_not_taken_is_counted(folder: Path) -> None:
    omitted = Omitted()
    assert [file.relative_to(folder).as_posix() for file in image_files(folder, omitted)] == TAKEN
    assert [file.name for file in omitted.files] == ["c.txt"]
    assert [line.split(" links to ")[0] for line in omitted.folders] == [
        f"{folder}/linked again", f"{folder}/deep/circle", f"{folder}/deep/up",
    ]  # fmt: skip


def test_a_folder_and_a_glob_name_the_same_images_and_report_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    reports: list[str] = []
    listings = [[item.id for item in items_of([path], reports.append)] for path in ("root", "root/**", "root/**/*")]
    assert listings == [[f"root/{name}" for name in TAKEN]] * 3
    assert len(reports) == 3
    assert all("1 file has no image extension (1 .txt), for example root/c.txt" in line for line in reports)


def test_a_glob_matches_the_same_files_as_the_standard_library(folder: Path) -> None:
    for pattern in ("*.j*", "deep/er/?.jpg", "[a-b].*", "[!a].*", "**/*.jpg", "deep/**/d.*"):
        whole = f"{folder}/{pattern}"
        found = {os.path.realpath(file) for file in matching_images(whole, Omitted())}
        assert found == {os.path.realpath(f) for f in folder.glob(pattern) if f.suffix.lower() in SUFFIXES
                         and not any(part.startswith(".") for part in f.relative_to(folder).parts)
                         } | ({str(folder.parent / "store/e.jpg")} if pattern == "**/*.jpg" else set())  # fmt: skip


def test_all_paths_that_are_not_there_are_reported_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError) as caught:
        items_of(["none.jpg", "A.JFIF", "a.jfif"])
    assert "2 errors" in str(caught.value)
    assert "A.JFIF: no such file or folder; did you mean a.jfif?" in str(caught.value)


def test_names_below_a_root_that_is_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real/images").mkdir(parents=True)
    (tmp_path / "real/images/a.jpg").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for root, other in (("link", "real"), ("real", "link")):
        assert name_below(tmp_path / root, tmp_path / other / "images/a.jpg") == "images/a.jpg"
    assert name_below(tmp_path / "link", tmp_path / "elsewhere.jpg") is None
    assert without_dots(tmp_path / "x" / ".." / "real") == tmp_path / "real"
    assert without_dots(tmp_path / "link" / ".." / "real") == tmp_path / "real"
    assert unused_images(tmp_path / "link", ["images/a.jpg"]) == []
