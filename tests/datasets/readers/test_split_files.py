"""Official splits in files of their own, as ChestX-ray14 and CelebA have them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.datasets.readers.split_files import parse_split_file
from mlrec.utils.errors import DataError, UsageError
from mlrec.workflows.data.prepare import prepare

IMAGES = ("a/1.png", "a/2.png", "b/3.png", "b/4.png")


def source(folder: Path) -> Path:
    with (folder / "entry.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("Image Index", "cat"), *((image, k % 2) for k, image in enumerate(IMAGES))])
    return folder / "entry.csv"


def divided(folder: Path, *flags: str, **options: object) -> tuple[dict[str, tuple[str, ...]], Dataset]:
    files = [parse_split_file(flag) for flag in flags]
    dataset = prepare(
        "csv",
        source(folder),
        out=folder / "data",
        options=ReadOptions(**options),
        split_files=files,
        verify=False,  # type: ignore[arg-type]
    )
    return {split: dataset.manifest(split).images for split in dataset.info.splits}, dataset


def test_a_list_per_split_divides_a_source_without_splits(tmp_path: Path) -> None:
    (tmp_path / "train_val_list.txt").write_text("a/1.png\nb/4\n\n")  # by path, and by path without ending
    (tmp_path / "test_list.txt").write_text("images_012/images/3.png\n2.png\n")  # by file name
    splits, dataset = divided(tmp_path, f"trainval={tmp_path}/train_val_list.txt", f"test={tmp_path}/test_list.txt")
    assert splits == {"trainval": ("a/1.png", "b/4.png"), "test": ("b/3.png", "a/2.png")}
    assert dataset.manifest("test").targets.tolist() == [[0], [1]]  # rows of the table: 2 and 1
    assert dataset.info.warnings == []
    assert dataset.info.source["split_files"] == [f"{tmp_path}/train_val_list.txt", f"{tmp_path}/test_list.txt"]


@pytest.mark.parametrize("text", ["image_id,partition\n{}", "{}"])
@pytest.mark.parametrize("separator", [",", " ", "\t"])
def test_a_table_of_images_and_splits_with_and_without_header(tmp_path: Path, text: str, separator: str) -> None:
    rows = zip(("1.png", "2.png", "3.png", "4.png"), "0120", strict=True)
    (tmp_path / "part.txt").write_text(text.format("\n".join(separator.join(row) for row in rows)))
    splits, _ = divided(tmp_path, f"{tmp_path}/part.txt", split_names={"0": "train", "1": "val", "2": "test"})
    assert splits == {"train": ("a/1.png", "b/4.png"), "val": ("a/2.png",), "test": ("b/3.png",)}


def test_what_is_not_listed_and_what_is_not_there_are_warnings(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("1.png\n2.png\n9.png\n")
    splits, dataset = divided(tmp_path, f"train={tmp_path}/train.txt")
    assert splits == {"train": ("a/1.png", "a/2.png")}
    assert dataset.info.warnings == [
        f"images listed in --split-file but missing from the source were skipped: 9.png ({tmp_path}/train.txt: line 3)",
        "images that are not listed in any --split-file were skipped: 2 times, first b/3.png",
    ]


def test_an_image_in_train_and_test_is_a_leak(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("1.png\n2.png\n")
    (tmp_path / "test.txt").write_text("2.png\n3.png\n")
    with pytest.raises(DataError, match=r"a/2\.png"):
        divided(tmp_path, f"train={tmp_path}/train.txt", f"test={tmp_path}/test.txt")


def test_errors_name_the_line_and_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("x.png\n")
    with pytest.raises(DataError, match="no image from the source is listed"):
        divided(tmp_path, f"train={tmp_path}/none.txt")
    with pytest.raises(DataError, match=r"the line has no second column with the split; add one, or use --split-file"):
        divided(tmp_path, f"{tmp_path}/none.txt")
    with pytest.raises(UsageError, match="expected SPLIT=FILE"):
        parse_split_file("a/b=c")
    (tmp_path / "part.csv").write_text("1.png,0\n")
    with pytest.raises(DataError, match="the source has no split '7'"):
        divided(tmp_path, f"{tmp_path}/part.csv", split_names={"0": "train", "7": "val"})


def test_a_short_name_that_two_images_share_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "twins.csv").write_text("filename,cat\na/1.png,0\nb/1.png,1\n")
    (tmp_path / "train.txt").write_text("1.png\n")
    files = [parse_split_file(f"train={tmp_path}/train.txt")]
    with pytest.raises(DataError, match=r"multiple images are named '1\.png'; write their full paths"):
        prepare("csv", tmp_path / "twins.csv", out=tmp_path / "data", split_files=files, verify=False)


def test_a_source_with_splits_of_its_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("filename,split,cat\na.png,train,0\nb.png,test,1\n")
    (tmp_path / "train.txt").write_text("a.png\n")
    files = [parse_split_file(f"train={tmp_path}/train.txt")]
    with pytest.raises(DataError, match=r"the source already has splits \(train, test\)"):
        prepare("csv", tmp_path / "own.csv", out=tmp_path / "data", split_files=files, verify=False)
