"""Own VOC-style folders and VOC2012, as literal trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.voc import LABELS, read_voc2012
from mlrec.datasets.readers.voc_custom import read_own_voc
from mlrec.utils.errors import DataError, ValidationReport

BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
PART = f"<part><name>head</name>{BOX}</part>"


def xml(*objects: str) -> str:
    """`dog`, or `dog?` for a difficult one; a person has a head."""
    body = ""
    for name in objects:
        difficult = f"<difficult>{int(name.endswith('?'))}</difficult>" if name.endswith("?") else ""
        label = name.rstrip("?")
        body += f"<object><name>{label}</name>{difficult}{BOX}{PART if label == 'person' else ''}</object>"
    return f"<annotation><size><width>40</width><height>30</height></size>{body}</annotation>"


def tree(root: Path, annotations: dict[str, str], lists: dict[str, str] | None = None, suffix: str = ".jpg") -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for stem, content in annotations.items():
        (root / "Annotations" / f"{stem}.xml").write_text(content)
        (root / "JPEGImages" / f"{stem}{suffix}").touch()
    for split, names in (lists or {}).items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names.split()) + "\n")
    return root


def read(root: Path, *labels: str) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_own_voc(root, ReadOptions(labels=labels or None), findings), findings


def test_labels_are_collected_and_sorted_without_lists_there_is_one_split(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", {"a": xml("dog", "cat?"), "b": xml("bird")}, suffix=".PNG")
    reading, findings = read(root)
    (manifest,) = reading.manifests
    assert not findings.errors
    assert (reading.name, manifest.split, manifest.labels) == ("pets", "all", ("bird", "cat", "dog"))
    assert manifest.images == ("JPEGImages/a.PNG", "JPEGImages/b.PNG")
    assert manifest.targets.tolist() == [[0, -1, 1], [1, 0, 0]]
    assert reading.stated_sizes["JPEGImages/a.PNG"] == (40, 30)


def test_lists_make_splits_and_given_labels_the_order(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": xml("dog"), "b": xml("cat")}, {"train": "a", "test": "b"})
    reading, _ = read(root, "dog", "cat")
    assert {m.split: m.targets.tolist() for m in reading.manifests} == {"train": [[1, 0]], "test": [[0, 1]]}


def test_an_unknown_name_is_an_error_with_the_nearest_one(tmp_path: Path) -> None:
    _, findings = read(tree(tmp_path, {"a": xml("Dog")}), "dog", "cat")
    assert "class 'Dog' is not one of the 2 classes; did you mean 'dog'?" in findings.errors[0]


def test_collected_names_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    _, findings = read(tree(tmp_path, {"a": xml("Dog"), "b": xml("dog")}))
    assert "class 'dog' is spelled 'Dog' elsewhere" in findings.errors[0]


def test_xml_and_images_may_lie_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(xml("dog"))
    (tmp_path / "a.webp").touch()
    reading, _ = read(tmp_path)
    assert reading.manifests[0].images == ("a.webp",)


def test_folders_called_as_splits_are_the_splits(tmp_path: Path) -> None:
    written = {"train/a": xml("dog"), "valid/b": xml("cat?"), "valid/a": xml("dog"), "test/c": xml()}
    for place, content in written.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / f"{place}.rf.0f.xml").write_text(content)
        (tmp_path / f"{place}.rf.0f.jpg").touch()
    (tmp_path / "test/d.jpg").touch()
    reading, findings = read(tmp_path)
    assert not findings.errors
    assert {m.split: m.images for m in reading.manifests} == {
        "train": ("train/a.rf.0f.jpg",),
        "val": ("valid/a.rf.0f.jpg", "valid/b.rf.0f.jpg"),
        "test": ("test/c.rf.0f.jpg",),
    }
    assert [m.targets.tolist() for m in reading.manifests] == [[[0, 1]], [[0, 1], [-1, 0]], [[0, 0]]]
    assert "images without an annotation were skipped: test/d.jpg" in findings.warnings


def test_annotations_below_their_folder_find_images_below_theirs(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": xml("dog")}, {"train": "sub/a", "test": "a"})
    for folder, name in (("Annotations", "a.xml"), ("JPEGImages", "a.jpg")):
        (root / folder / "sub").mkdir()
        (root / folder / "sub" / name).write_bytes((root / folder / name).read_bytes())
    reading, findings = read(root)
    assert not findings.errors
    assert [m.images for m in reading.manifests] == [("JPEGImages/sub/a.jpg",), ("JPEGImages/a.jpg",)]


def test_an_annotation_without_its_image_is_an_error(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": xml("dog"), "b": xml("dog")})
    (root / "JPEGImages/b.jpg").unlink()
    _, findings = read(root)
    assert len(findings.errors) == 1
    assert "b.xml: no image has the same name as this XML file" in findings.errors[0]


def test_images_elsewhere_become_the_root(tmp_path: Path) -> None:
    root = tree(tmp_path / "labels", {"a": xml("dog")})
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.jpg").touch()
    reading = read_own_voc(root, ReadOptions(images=tmp_path / "pictures"), ValidationReport())
    assert (reading.manifests[0].root, reading.manifests[0].images) == (tmp_path / "pictures", ("a.jpg",))


def test_of_two_images_of_one_name_the_first_is_taken_and_hidden_files_are_none(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": xml("dog"), "._a": "of another system"})
    (root / "JPEGImages/a.png").touch()
    reading, findings = read(root)
    assert reading.manifests[0].images == ("JPEGImages/a.jpg",)
    assert findings.warnings == [
        "image names differ only in the extension; the first image was used: JPEGImages/a.jpg, JPEGImages/a.png"
    ]


def test_a_folder_in_small_letters_and_images_without_an_annotation(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": xml("dog")})
    (root / "Annotations").rename(root / "annotations")
    (root / "JPEGImages/b.jpg").touch()
    reading, findings = read(root)
    assert reading.manifests[0].images == ("JPEGImages/a.jpg",)
    assert findings.warnings == ["images without an annotation were skipped: JPEGImages/b.jpg"]


def test_annotations_without_any_object_name_no_labels(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": xml()})
    with pytest.raises(DataError, match=r"no annotation contains an object.*list the labels with --labels"):
        read(root)
    assert read(root, "dog")[0].manifests[0].targets.tolist() == [[0]]


def test_a_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no [.]xml annotation"):
        read(tmp_path)


def test_voc2012_lists_test_images_for_prediction(tmp_path: Path) -> None:
    annotations = {"2008_000002": xml("tvmonitor"), "2008_000003": xml("person", "train?"), "2009_000001": xml("dog")}
    lists = {"train": "2008_000002", "val": "2008_000003", "trainval": "2008_000002 2008_000003", "test": "2008_000001"}
    tree(tmp_path / "VOCdevkit/VOC2012", annotations, lists)  # one annotation more than is listed, as in the archive
    findings = ValidationReport()
    reading = read_voc2012(tmp_path / "VOCdevkit", ReadOptions(), findings)
    splits = {m.split: m for m in reading.manifests}
    assert not findings.errors
    assert list(splits) == ["train", "val", "trainval", "test"]
    assert splits["test"].images == ("JPEGImages/2008_000001.jpg",)
    assert (splits["test"].targets == -1).all()
    val = dict(zip(LABELS, splits["val"].targets[0].tolist(), strict=True))
    assert {label for label, value in val.items() if value == 1} == {"person"}
    assert {label for label, value in val.items() if value == -1} == {"train"}
    assert findings.warnings == [
        "labels of images without annotations were set to unknown; use these images only for prediction: 2008_000001"
    ]


def test_voc2012_training_images_need_their_annotation(tmp_path: Path) -> None:
    tree(tmp_path / "VOC2012", {"2008_000002": xml("dog")}, {"train": "2008_000002 2008_000003"})
    findings = ValidationReport()
    read_voc2012(tmp_path, ReadOptions(), findings)
    assert "2008_000003.xml: the annotation file of a listed image does not exist" in findings.errors[0]


def test_annotations_in_subfolders_and_in_capitals_are_all_read(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": xml("dog"), "b": xml("cat"), "c": xml("dog"), "d": xml("cat")})
    moved = {"b": "cam1/day/b", "c": "cam2/c"}
    for stem, place in moved.items():
        for folder, suffix in (("Annotations", ".xml"), ("JPEGImages", ".jpg")):
            (root / folder / place).parent.mkdir(parents=True, exist_ok=True)
            (root / folder / f"{stem}{suffix}").rename(root / folder / f"{place}{suffix}")
    (root / "Annotations/a.xml").rename(root / "Annotations/a.XML")
    (root / "JPEGImages/d.jpg").rename(root / "JPEGImages/cam2/d.jpg")
    reading, findings = read(root)
    assert not findings.errors
    (manifest,) = reading.manifests
    assert dict(zip(manifest.images, manifest.targets.tolist(), strict=True)) == {
        "JPEGImages/a.jpg": [0, 1], "JPEGImages/cam2/d.jpg": [1, 0],
        "JPEGImages/cam1/day/b.jpg": [1, 0], "JPEGImages/cam2/c.jpg": [0, 1],
    }  # fmt: skip


def test_what_is_beside_the_folders_of_splits_or_in_no_list_is_a_warning(tmp_path: Path) -> None:
    for place in ("train/a", "valid/b", "extra/c"):
        (tmp_path / "r" / place).parent.mkdir(parents=True)
        (tmp_path / "r" / f"{place}.xml").write_text(xml("dog"))
        (tmp_path / "r" / f"{place}.jpg").touch()
    assert "annotations without a split were not used: extra/c.xml" in read(tmp_path / "r")[1].warnings
    root = tree(tmp_path / "l", {"a": xml("dog"), "b": xml("dog")}, {"train": "a"})
    assert "annotations without a split were not used: Annotations/b.xml" in read(root)[1].warnings


def test_lists_with_endings_and_a_second_column(tmp_path: Path) -> None:
    annotations = dict.fromkeys(("a", "b", "c d", "e 1"), xml("dog"))
    root = tree(tmp_path, annotations)
    (root / "ImageSets/Main/train.txt").write_text("a.jpg\nb  -1\nc d.jpg 1\ne 1\n")
    reading, findings = read(root)
    assert not findings.errors
    assert [Path(image).stem for image in reading.manifests[0].images] == ["a", "b", "c d", "e 1"]


def test_errors_on_names_in_other_capitals_name_the_file_that_is_there(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": xml("dog"), "b": xml("dog")}, {"train": "A b"})
    (root / "JPEGImages/b.jpg").rename(root / "JPEGImages/B.jpg")
    _, findings = read(root)
    assert f"did you mean {root}/Annotations/a.xml" in findings.errors[0]
    assert f"did you mean {root}/JPEGImages/B.jpg" in findings.errors[1]
