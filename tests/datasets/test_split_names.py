"""One vocabulary of splits: the same names mean the same split in every kind of source."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

from mlrec.datasets.readers.registry import Reading, ReadOptions, reader_of
from mlrec.datasets.split_names import disjoint, known_split, parse_names, resolve_names
from mlrec.utils.errors import DataError, UsageError, ValidationReport

BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
XML = f"<annotation><object><name>cat</name>{BOX}</object></annotation>"
MEANT = {
    "train": "train", "training": "train", "Train": "train", "valid": "val", "Validation": "val", "dev": "val",
    "test": "test", "testing": "test", "Test": "test", "TRAINVAL": "trainval",
}  # fmt: skip


def csv_column(root: Path, names: list[str]) -> Path:
    rows = [f"{k}.jpg,{name},{k % 2}" for k, name in enumerate(names)]
    (root / "labels.csv").write_text("\n".join(["filename,split,cat", *rows]) + "\n")
    return root / "labels.csv"


def csv_files(root: Path, names: list[str]) -> Path:
    for k, name in enumerate(names):
        (root / f"{name}.csv").write_text(f"filename,cat\n{k}.jpg,1\n")
    return root


def voc_lists(root: Path, names: list[str]) -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for k, name in enumerate(names):
        (root / f"Annotations/{k}.xml").write_text(XML)
        (root / f"JPEGImages/{k}.jpg").touch()
        (root / f"ImageSets/Main/{name}.txt").write_text(f"{k}\n")
    return root


def voc_folders(root: Path, names: list[str]) -> Path:
    for k, name in enumerate(names):
        (root / name).mkdir()
        (root / name / f"{k}.xml").write_text(XML)
        (root / name / f"{k}.jpg").touch()
    return root


def yolo_keys(root: Path, names: list[str]) -> Path:
    (root / "labels").mkdir()
    for k in range(len(names)):
        (root / f"images/{k}").mkdir(parents=True)
        (root / f"images/{k}/{k}.jpg").touch()
        (root / f"labels/{k}").mkdir()
        (root / f"labels/{k}/{k}.txt").write_text("0 .5 .5 .1 .1\n")
    lines = [f"{name}: images/{k}" for k, name in enumerate(names)]
    (root / "data.yaml").write_text("\n".join(["names: [cat]", *lines]) + "\n")
    return root


def coco_files(root: Path, names: list[str]) -> Path:
    (root / "annotations").mkdir()
    for k, name in enumerate(names):
        (root / f"{name}2017").mkdir()
        content = {
            "images": [{"id": 1, "file_name": f"{k}.jpg"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1}],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (root / f"annotations/instances_{name}2017.json").write_text(json.dumps(content))
    return root


Make = Callable[[Path, list[str]], Path]
SOURCES = {
    "csv column": ("csv", csv_column),
    "csv files": ("csv", csv_files),
    "voc lists": ("voc", voc_lists),
    "voc folders": ("voc", voc_folders),
    "yolo keys": ("yolo", yolo_keys),
    "coco files": ("coco", coco_files),
}
EACH = pytest.mark.parametrize(("kind", "make"), SOURCES.values(), ids=SOURCES)
JOINABLE = [SOURCES[name] for name in ("csv column", "voc lists", "voc folders", "yolo keys")]


def read(kind: str, path: Path, splits: str = "") -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    options = ReadOptions(split_names=parse_names(splits) if splits else {})
    return reader_of(kind)(path, options, findings), findings


def images(reading: Reading) -> dict[str, list[str]]:
    return {manifest.split: [Path(image).name for image in manifest.images] for manifest in reading.manifests}


@EACH
@pytest.mark.parametrize(
    "names", [["Train", "Validation", "Test"], ["training", "valid", "testing"], ["train", "dev"], ["TRAINVAL", "test"]]
)
def test_every_spelling_is_the_same_split_in_every_source(
    tmp_path: Path, kind: str, make: Make, names: list[str]
) -> None:
    reading, findings = read(kind, make(tmp_path, names))
    assert not findings.errors
    assert images(reading) == {MEANT[name]: [f"{k}.jpg"] for k, name in enumerate(names)}


@EACH
def test_two_names_of_one_split_are_an_error(tmp_path: Path, kind: str, make: Make) -> None:
    _, findings = read(kind, make(tmp_path, ["train", "valid", "val"]))
    assert any("'val'" in error and "valid" in error for error in findings.errors), findings.errors


@pytest.mark.parametrize(("kind", "make"), JOINABLE)
def test_two_names_of_one_split_are_joined_when_asked(tmp_path: Path, kind: str, make: Make) -> None:
    reading, findings = read(kind, make(tmp_path, ["train", "valid", "val"]), "valid=val,val=val")
    assert not findings.errors
    assert {split: sorted(names) for split, names in images(reading).items()} == {
        "train": ["0.jpg"],
        "val": ["1.jpg", "2.jpg"],
    }


@EACH
def test_unusual_names_are_mapped_by_the_option(tmp_path: Path, kind: str, make: Make) -> None:
    path = make(tmp_path, ["Learning", "tuning", "holdout"])
    reading, findings = read(kind, path, "learning=training,TUNING=val,holdout=test")
    assert not findings.errors
    assert not [warning for warning in findings.warnings if "split names" in warning]
    assert images(reading) == {"train": ["0.jpg"], "val": ["1.jpg"], "test": ["2.jpg"]}


@EACH
def test_an_option_that_names_no_split_of_the_source_is_an_error(tmp_path: Path, kind: str, make: Make) -> None:
    _, findings = read(kind, make(tmp_path, ["train", "test"]), "holdot=test")
    assert ["--splits: " in error and "'holdot'" in error for error in findings.errors] == [True]


@pytest.mark.parametrize(("kind", "make"), [SOURCES["csv column"], SOURCES["csv files"], SOURCES["voc lists"]])
def test_unknown_names_are_kept_and_shown(tmp_path: Path, kind: str, make: Make) -> None:
    reading, findings = read(kind, make(tmp_path, ["north", "south"]))
    assert images(reading) == {"north": ["0.jpg"], "south": ["1.jpg"]}
    (warning,) = [warning for warning in findings.warnings if "--splits" in warning]
    assert "north" in warning


def test_other_lists_are_named_and_class_lists_are_not(tmp_path: Path) -> None:
    path = voc_lists(tmp_path, ["Train", "Test", "cat_train", "north"])
    reading, findings = read("voc", path)
    assert images(reading) == {"train": ["0.jpg"], "test": ["1.jpg"]}
    (warning,) = [warning for warning in findings.warnings if "not split names" in warning]
    assert "north.txt" in warning


def test_cvat_s_default_names_no_split(tmp_path: Path) -> None:
    reading, findings = read("voc", voc_lists(tmp_path, ["default"]))
    assert images(reading) == {"all": ["0.jpg"]}
    assert not findings.warnings


def test_the_only_table_of_a_folder_is_not_a_split_unless_it_is_named_so(tmp_path: Path) -> None:
    reading, findings = read("csv", csv_files(tmp_path, ["labels"]))
    assert images(reading) == {"all": ["0.jpg"]}
    assert not findings.warnings
    (tmp_path / "labels.csv").rename(tmp_path / "Testing.csv")
    assert images(read("csv", tmp_path)[0]) == {"test": ["0.jpg"]}


def test_names_in_one_column_that_differ_in_case_are_joined_with_a_warning(tmp_path: Path) -> None:
    reading, findings = read("csv", csv_column(tmp_path, ["train", "Train", "north", "North"]))
    assert not findings.errors
    assert images(reading) == {"train": ["0.jpg", "1.jpg"], "north": ["2.jpg", "3.jpg"]}
    assert any("differ only in case were merged: 2 times, first train and Train" in w for w in findings.warnings)


def test_two_tables_are_joined_when_splits_names_both(tmp_path: Path) -> None:
    reading, findings = read("csv", csv_files(tmp_path, ["valid", "val"]), "valid=val,val=val")
    assert not findings.errors
    assert {split: sorted(names) for split, names in images(reading).items()} == {"val": ["0.jpg", "1.jpg"]}


@pytest.mark.parametrize("text", ["", "a", "a=", "=val", "a=../b", "a=val,a=test", "a=val,A=test"])
def test_a_map_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--splits"):
        parse_names(text)


def test_all_pairs_but_a_whole_and_its_parts_are_disjoint() -> None:
    nested = {
        pair for pair in combinations(("train", "val", "trainval", "test", "all", "north"), 2) if not disjoint(*pair)
    }
    assert nested == {("train", "trainval"), ("val", "trainval"), ("train", "all"), ("val", "all"), ("trainval", "all")}
    assert not disjoint("trainval", "train")


def test_a_name_is_known_in_any_case_and_others_are_not() -> None:
    assert [known_split(name) for name in (" VALID ", "Default", "minival", "")] == ["val", "all", None, None]
    findings = ValidationReport()
    assert resolve_names({"../x": "labels.csv"}, {}, findings) == {"../x": "../x"}
    assert findings.errors == ["labels.csv: '../x' is not a valid split name; use train, val or test"]


def test_an_image_folder_may_have_another_spelling_than_its_annotation_file(tmp_path: Path) -> None:
    path = coco_files(tmp_path, ["val"])
    (tmp_path / "val2017").rmdir()
    (tmp_path / "images/Validation").mkdir(parents=True)
    reading, _ = read("coco", path)
    assert reading.manifests[0].images == ("images/Validation/0.jpg",)


def test_a_coco_folder_without_any_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no instances_train"):
        read("coco", coco_files(tmp_path, ["minival"]))
