"""YOLO datasets, as literal trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.yolo import read_yolo
from mlrec.datasets.readers.yolo_layout import recognizes
from mlrec.utils.errors import DataError, ValidationReport

YAML = """\
path: .
train: images/train
val:
  - images/val
  - more.txt
names:
  0: person
  1: traffic light
"""


def tree(root: Path, yaml: str = YAML) -> Path:
    labels = {
        "train/a": "1 .5 .5 .1 .1\n1 .2 .2 .1 .1\n",
        "train/b": "",
        "val/c": "0 .1 .1 .2 .2\n1 .1 .1 .3 .1 .3 .3\n",
    }
    for name, content in labels.items():
        for folder, suffix in (("images", ".jpg"), ("labels", ".txt")):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (root / folder / f"{name}{suffix}").write_text(content if suffix == ".txt" else "")
    (root / "images/train/._a.jpg").touch()
    (root / "more").mkdir()
    (root / "more/d.png").touch()
    (root / "more.txt").write_text("./more/d.png\n")
    (root / "data.yaml").write_text(yaml)
    return root


def read(path: Path) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_yolo(path, ReadOptions(), findings), findings


@pytest.mark.parametrize("file", ["", "data.yaml"])
def test_folders_and_lists_of_images(tmp_path: Path, file: str) -> None:
    reading, findings = read(tree(tmp_path / "street") / file)
    assert not findings.errors
    train, val = reading.manifests
    assert (reading.name, train.root) == ("street", tmp_path / "street")
    assert train.labels == ("person", "traffic light")
    assert (train.split, train.images) == ("train", ("images/train/a.jpg", "images/train/b.jpg"))
    assert train.targets.tolist() == [[0, 1], [0, 0]]
    assert (val.split, val.images) == ("val", ("images/val/c.jpg", "more/d.png"))
    assert val.targets.tolist() == [[1, 1], [0, 0]]
    assert findings.warnings == [
        f"split 'test' is absent because data.yaml does not list it: {tmp_path}/street/data.yaml",
        "images without a label file were labeled negative for every class: more/d.png",
    ]


def test_paths_of_exported_sets_and_of_another_machine(tmp_path: Path) -> None:
    yaml = "path: /no/such/disk\ntrain: ../images/train\nval: images/val\nnames: [person, traffic light]\n"
    reading, _ = read(tree(tmp_path, yaml))
    assert [len(m) for m in reading.manifests] == [2, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 .5 .5 .1 .1", r"a\.txt: line 1: class 2 is out of range for 2 classes \(numbered from 0\)"),
        ("-1 .5 .5 .1 .1", "class -1 is out of range for 2 classes"),
        ("0.5 .5 .5 .1 .1", "numeric format 'class x y width height'"),
        ("0 .5 .5 .1", "numeric format 'class x y width height'"),
        ("dog .5 .5 .1 .1", "numeric format 'class x y width height'"),
        ("0 .5 .5 .1 nan", "numeric format 'class x y width height'"),
    ],
)
def test_a_bad_label_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    tree(tmp_path)
    (tmp_path / "labels/train/a.txt").write_text(line + "\n")
    _, findings = read(tmp_path)
    with pytest.raises(DataError, match=message):
        findings.raise_errors("x", "y")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: [a]\ntrain: [", "invalid YAML at line 2, column 9"),
        ("- a\n", "not a YAML mapping"),
        ("train: images/train\n", "'names' must list the classes"),
        ("names: {0: a, 2: b}\ntrain: images/train\n", "without gaps"),
        ("names: [a, no]\ntrain: images/train\n", "put the name in quotes"),
        ("names: [a]\n", "has none of the keys train, val, test"),
        ("a: &a [x]\nnames: *a\ntrain: images/train\n", "YAML aliases"),
        ("names: !!python/object/apply:os.system [echo]\n", "invalid YAML"),
    ],
)
def test_a_bad_description_is_refused(tmp_path: Path, yaml: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tree(tmp_path, yaml))


def test_all_places_that_are_not_there_are_reported_at_once_with_what_looks_like_them(tmp_path: Path) -> None:
    long = "t" * 300
    _, findings = read(
        tree(tmp_path, f"names: [a]\npath: {long}\ntrain: images/none\nval: [../.., {long}]\ntest: image\n")
    )
    assert [error.partition(": ")[2].partition(" in ")[0] for error in findings.errors] == [
        "train: 'images/none' is neither a folder nor an image list",
        "val: '../..' is neither a folder nor an image list",
        f"val: '{long}' is neither a folder nor an image list",
        "test: 'image' is neither a folder nor an image list",
    ]


def test_a_number_of_classes_that_is_not_that_of_the_names(tmp_path: Path) -> None:
    _, findings = read(tree(tmp_path, YAML + "nc: 3\n"))
    assert findings.errors == [f"{tmp_path}/data.yaml: 'nc' is 3, but 'names' has 2 entries; correct one of them"]
    assert not read(tree(tmp_path / "right", YAML + "nc: 2\n"))[1].errors


def test_names_with_signs_of_yaml_are_names(tmp_path: Path) -> None:
    reading, _ = read(tree(tmp_path, "names: ['R&B', 'c*']\ntrain: images/train\n"))
    assert reading.manifests[0].labels == ("R&B", "c*")


def test_an_image_below_another_folder_called_images(tmp_path: Path) -> None:
    tree(tmp_path / "images/street")
    reading, _ = read(tmp_path / "images/street")
    assert reading.manifests[0].targets.tolist() == [[0, 1], [0, 0]]


def boxes(root: Path, files: dict[str, str], yaml: str = "") -> Path:
    """Label files and empty images: a name that ends with `.txt` holds the class in `files`."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content} .5 .5 .2 .2\n" if name.lower().endswith("txt") else "")
    (root / "data.yaml").write_text(yaml or "train: images/train\nval: images/val\nnames: [cat, dog, hen]\n")
    return root


@pytest.mark.parametrize("target", ["other/images/val", "store/val"])
def test_labels_are_looked_up_by_the_path_as_given_not_by_the_target_of_a_link(tmp_path: Path, target: str) -> None:
    root = boxes(tmp_path / "ds", {"images/train/t.jpg": "", "labels/train/t.txt": "1", "labels/val/v.txt": "0"})
    boxes(tmp_path, {f"{target}/v.jpg": "", "other/labels/val/v.txt": "2"})
    (root / "images/val").symlink_to(tmp_path / target)
    reading, findings = read(root)
    assert not findings.errors
    assert reading.manifests[1].images == ("images/val/v.jpg",)
    assert reading.manifests[1].targets.tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("opened", ["real", "link"])
@pytest.mark.parametrize("listed", ["real", "link"])
def test_absolute_lists_of_a_root_that_is_reached_through_a_link(tmp_path: Path, opened: str, listed: str) -> None:
    root = boxes(tmp_path / "real", {"images/a.jpg": "", "labels/a.txt": "1"}, "train: list.txt\nnames: [cat, dog]\n")
    (tmp_path / "link").symlink_to(root)
    (root / "list.txt").write_text(f"{tmp_path}/{listed}/images/a.jpg\n")
    reading, findings = read(tmp_path / opened)
    assert not findings.errors
    assert reading.manifests[0].root == tmp_path / opened
    assert reading.manifests[0].images == ("images/a.jpg",)
    assert reading.manifests[0].targets.tolist() == [[0, 1]]


@pytest.mark.parametrize("line", ["./images/a.jpg 1", "images/a", "images\\a.jpg", "/content/ds/images/a.jpg"])
def test_a_line_of_a_list_may_have_a_column_no_ending_or_the_path_of_another_machine(tmp_path: Path, line: str) -> None:
    root = boxes(tmp_path, {"images/a.jpg": "", "labels/a.txt": "1"}, "train: list.txt\nnames: [cat, dog]\n")
    (root / "list.txt").write_text(f"{line}\n")
    reading, findings = read(root)
    assert not findings.errors
    assert reading.manifests[0].images == ("images/a.jpg",)
    assert reading.manifests[0].targets.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("image", "label"),
    [("images/train/a.jpg", "Labels/train/a.txt"), ("images/train/a.jpg", "labels/train/a.TXT"),
     ("Images/train/a.jpg", "labels/train/a.txt"), ("images/train/a.jpg", "images/train/a.txt")],
)  # fmt: skip
def test_a_split_without_any_label_file_is_an_error_that_names_what_is_there(
    tmp_path: Path, image: str, label: str
) -> None:
    root = boxes(tmp_path, {image: "", label: "1"}, f"train: {Path(image).parent}\nnames: [cat, dog]\n")
    _, findings = read(root)
    (error,) = findings.errors
    assert "train: no image has a label file (1 image); expected" in error
    assert f"but found {root / label}" in error


def test_a_label_file_in_other_capitals_is_an_error_and_in_another_unicode_form_is_found(tmp_path: Path) -> None:
    names = {"images/a.jpg": "", "labels/a.txt": "1", "images/b.jpg": "", "labels/B.txt": "1",
             "images/e\u0301.jpg": "", "labels/\u00e9.txt": "1"}  # fmt: skip
    reading, findings = read(boxes(tmp_path, names, "train: images\nnames: [cat, dog]\n"))
    assert reading.manifests[0].targets.tolist() == [[0, 1], [0, 0], [0, 1]]
    assert findings.errors == [f"images/b.jpg: the label file is named {tmp_path}/labels/B.txt; rename it to b.txt"]


def test_path_may_be_the_folder_of_images_and_what_is_not_used_is_a_warning(tmp_path: Path) -> None:
    names = {"images/t/a.jpg": "", "labels/t/a.txt": "1", "images/t/b.heic": "", "images/minival/c.jpg": ""}
    yaml = "path: ./images\ntrain: t\nminival: minival\nnames: [cat, dog]\n"
    reading, findings = read(boxes(tmp_path, names, yaml))
    assert reading.manifests[0].targets.tolist() == [[0, 1]]
    text = "\n".join(findings.warnings)
    assert f"unknown keys were ignored: {tmp_path}/data.yaml: minival" in text
    assert "1 file has no image extension (1 .heic)" in text
    assert "images without a split were not used: minival/c.jpg" in text


def darknet(root: Path, **lines: str) -> Path:
    values = {"classes": "2", "train": "data/train.txt", "valid": "data/valid.txt", "names": "data/obj.names"} | lines
    root.mkdir(exist_ok=True)
    (root / "obj.data").write_text("".join(f"{key} = {value}\n" for key, value in values.items()))
    (root / "obj.names").write_text("dog\ntraffic light\n")
    for split, name, boxes in (("train", "a", "1 .5 .5 .1 .1\n"), ("valid", "b", "")):
        (root / f"obj_{split}_data").mkdir(exist_ok=True)
        (root / f"obj_{split}_data/{name}.jpg").touch()
        (root / f"obj_{split}_data/{name}.txt").write_text(boxes)
        (root / f"{split}.txt").write_text(f"data/obj_{split}_data/{name}.jpg\n")
    return root


def test_darknet_paths_start_at_the_folder_of_its_program(tmp_path: Path) -> None:
    reading, findings = read(darknet(tmp_path / "task"))
    assert (findings.errors, findings.warnings, reading.name) == ([], [], "task")
    assert {m.split: (m.images, m.targets.tolist()) for m in reading.manifests} == {
        "train": (("obj_train_data/a.jpg",), [[0, 1]]),
        "val": (("obj_valid_data/b.jpg",), [[0, 0]]),
    }
    assert reading.manifests[0].labels == ("dog", "traffic light")
    assert recognizes(tmp_path / "task") == "obj.data describes a Darknet dataset"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"classes": "3"}, "'nc' is 3, but 'names' has 2 entries"),
        ({"names": "data/other.names"}, "'names' is 'data/other.names', but this file does not exist"),
        ({"train": "data/none.txt"}, "'data/none.txt' is neither a folder nor an image list"),
    ],
)
def test_darknet_files_that_do_not_fit_are_errors(tmp_path: Path, lines: dict[str, str], message: str) -> None:
    def read_all() -> None:
        read(darknet(tmp_path, **lines))[1].raise_errors("", "")

    with pytest.raises(DataError, match=message):
        read_all()


@pytest.mark.parametrize("splits", [("train", "val"), ()])
def test_classes_txt_and_two_folders_are_enough(tmp_path: Path, splits: tuple[str, ...]) -> None:
    for split in splits or ("",):
        for folder, ending, content in (("images", "jpg", ""), ("labels", "txt", "1 .5 .5 .1 .1\n")):
            (tmp_path / folder / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / split / f"a.{ending}").write_text(content)
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    reading, findings = read(tmp_path)
    assert (findings.errors, findings.warnings) == ([], [])
    assert [m.split for m in reading.manifests] == list(splits or ("all",))
    assert all(m.targets.tolist() == [[0, 1]] and m.labels == ("dog", "cat") for m in reading.manifests)
    assert recognizes(tmp_path) == "it contains classes.txt and a label folder, like YOLO"
