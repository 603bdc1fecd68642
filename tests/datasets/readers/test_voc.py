"""VOC: tiny devkits written here, and the class lists that VOC itself distributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.voc import LABELS, read_voc2007
from mlrec.utils.errors import DataError, ValidationReport


def thing(name: str, difficult: int | None = 0, box: str = "", more: str = "") -> str:
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    corners = box or "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    return f"<object><name>{name}</name>{flag}{corners}{more}</object>"


def annotation(*things: str, filename: str = "") -> str:
    name = f"<filename>{filename}</filename>" if filename else ""
    size = "<size><width>64</width><height>48</height><depth>3</depth></size>"
    return f"<annotation>{name}{size}{''.join(things)}</annotation>"


def devkit(root: Path, files: Mapping[str, str | bytes], lists: Mapping[str, Sequence[str]] | None = None) -> Path:
    """A devkit with these annotations by image name; by default all in `trainval`."""
    year = root / "VOCdevkit" / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (year / folder).mkdir(parents=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (year / "Annotations" / f"{name}.xml").write_bytes(data)
    for split, names in (lists or {"trainval": list(files)}).items():
        (year / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return root / "VOCdevkit"


def read(path: Path) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_voc2007(path, ReadOptions(), findings), findings


def named(manifest: Manifest, row: int) -> tuple[set[str], set[str]]:
    values = dict(zip(manifest.labels, manifest.targets[row].tolist(), strict=True))
    return {name for name in values if values[name] == 1}, {name for name in values if values[name] == -1}


def test_present_difficult_and_absent(tmp_path: Path) -> None:
    part = "<part><name>head</name></part><part><name>dog</name></part>"
    path = devkit(
        tmp_path,
        {
            "000001": annotation(thing("dog"), thing("cat", 1), thing("car", 1), thing("car", 0)),
            "000002": annotation(thing("car", 0), thing("car", 1), thing("person", None, more=part)),
            "000003": annotation(thing(" dog\n", 1)),
        },
    )
    reading, findings = read(path)
    (manifest,) = reading.manifests
    assert manifest.labels == LABELS
    assert manifest.images == tuple(f"JPEGImages/00000{k}.jpg" for k in (1, 2, 3))
    assert manifest.root == path / "VOC2007"
    assert [named(manifest, row) for row in range(3)] == [
        ({"dog", "car"}, {"cat"}),
        ({"car", "person"}, set()),
        (set(), {"dog"}),
    ]
    assert reading.stated_sizes["JPEGImages/000001.jpg"] == (64, 48)
    assert not findings.errors


def test_targets_equal_the_class_lists_of_voc(realdata: Path) -> None:
    reading, findings = read(realdata / "voc" / "VOCdevkit")
    assert not findings.errors
    assert {m.split: len(m) for m in reading.manifests} == {"train": 465, "val": 448, "trainval": 913, "test": 545}
    for manifest in reading.manifests:
        for column, label in enumerate(manifest.labels):
            lines = (manifest.root / "ImageSets" / "Main" / f"{label}_{manifest.split}.txt").read_text().splitlines()
            official = dict(line.split() for line in lines)
            expected = [{"1": 1, "-1": 0, "0": -1}[official[Path(image).stem]] for image in manifest.images]
            np.testing.assert_array_equal(manifest.targets[:, column], expected, err_msg=f"{label} {manifest.split}")


def test_the_devkit_its_parent_and_the_year_are_all_found(tmp_path: Path) -> None:
    path = devkit(tmp_path, {"000001": annotation(thing("dog"))})
    digests = {read(place)[0].manifests[0].digest for place in (path.parent, path, path / "VOC2007")}
    assert len(digests) == 1
    (path / "VOC2007").rename(path / "VOC2012")
    for place in (tmp_path / "elsewhere", path / "VOC2012"):  # all years are laid out alike
        with pytest.raises(DataError, match=r"VOC2007 was not found.*specify the VOCdevkit folder"):
            read(place)


def test_lists_make_splits_and_a_missing_list_is_told_by_name(tmp_path: Path) -> None:
    files = {name: annotation(thing("dog")) for name in ("a", "b", "c")}
    path = devkit(tmp_path, files, {"train": ["b", "a", "b"], "val": ["c"]})
    main = path / "VOC2007" / "ImageSets" / "Main"
    (main / "trainval.txt").write_bytes(b"\xef\xbb\xbfa\r\n\r\n  c \r\n")
    reading, findings = read(path)
    images = {m.split: [Path(image).stem for image in m.images] for m in reading.manifests}
    assert images == {"train": ["b", "a"], "val": ["c"], "trainval": ["a", "c"]}
    twice, absent = sorted(findings.warnings)
    assert absent.startswith("split 'test' is absent because its list is missing")
    assert twice.startswith("images that are listed twice were used only once")
    assert twice.endswith("train.txt: b")


def test_an_empty_list_is_an_error(tmp_path: Path) -> None:
    path = devkit(tmp_path, {"a": annotation(thing("dog"))}, {"train": ["a"], "test": []})
    (error,) = read(path)[1].errors
    assert "test.txt: no images in split 'test'" in error
    (path / "VOC2007" / "ImageSets" / "Main" / "test.txt").unlink()
    (path / "VOC2007" / "ImageSets" / "Main" / "train.txt").unlink()
    with pytest.raises(DataError, match=r"contains none of train\.txt"):
        read(path)


DTD = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
OUTSIDE = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>99</xmax><ymax>9</ymax></bndbox>"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (annotation(thing("Dog")), "object 1: class 'Dog' is not one of the 20 classes; did you mean 'dog'?"),
        (annotation(thing("dog"), "<object></object>"), "object 2: the object has no <name>"),
        (annotation(thing("dog", 3)), "object 1: <difficult> is '3', but must be 0 or 1"),
        (
            annotation(thing("dog"), filename="../../etc/passwd"),
            "<filename> '../../etc/passwd' is outside the image folder",
        ),
        (DTD + annotation(thing("&x;")), "contains a DOCTYPE, which is not allowed"),
        ("<a>" * 101 + "</a>" * 101, "elements are nested deeper than 100"),
        ("<a>" * 200_000, "elements are nested deeper than 100"),
        (annotation(thing("dog"))[:-20], "the XML is not well-formed at line 1"),
        (b"<annotation>\0</annotation>", "the XML is not well-formed"),
        (b'<?xml version="1.0" encoding="x-foo"?><annotation/>', "text encoding is unknown"),
        (b"", "is empty"),
        ("<html><body>404</body></html>", "root element is not <annotation>"),
        (b"<annotation>" + b" " * 10_000_000 + b"</annotation>", "larger than 10,000,000 bytes"),
    ],
)
def test_a_bad_annotation_is_one_line_that_names_file_and_record(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    good = annotation(thing("cat"))
    _, findings = read(devkit(tmp_path, {"000001": good, "000003": content, "000004": good}))
    (error,) = findings.errors
    assert error.startswith("VOC2007/Annotations/000003.xml: ")
    assert said in error
    assert error.isprintable()


def test_all_bad_annotations_are_told(tmp_path: Path) -> None:
    path = devkit(tmp_path, {"1": b"", "2": annotation(thing("Dog"), thing("Cat")), "3": annotation(thing("dog"))})
    main = path / "VOC2007" / "ImageSets" / "Main"
    (main / "test.txt").write_text("4\n../5\n")
    errors = read(path)[1].errors
    assert len(errors) == 5
    assert any("4.xml: the annotation file of a listed image does not exist" in error for error in errors)
    assert any("test.txt: line 2" in error for error in errors)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (annotation(), "images without objects were labeled negative for every class: "),
        (annotation(thing("dog"), filename="7.jpg"), "<filename> refers to a different image"),
        (annotation(thing("dog", box=OUTSIDE)), "a box is outside its image; the label was kept"),
        (annotation(thing("dog", box=" ")), "an object has no valid box; the label was kept"),
    ],
)
def test_what_is_odd_but_usable_is_a_warning(tmp_path: Path, content: str, said: str) -> None:
    reading, findings = read(devkit(tmp_path, {"000003": content}))
    assert not findings.errors
    (warning,) = [line for line in findings.warnings if "is absent" not in line]
    assert warning.startswith(said)
    assert "000003" in warning
    assert len(reading.manifests[0]) == 1


@pytest.mark.parametrize("filename", ["000003.jpg", "000003.JPG", "000003", ""])
def test_the_files_own_name_is_no_mismatch(tmp_path: Path, filename: str) -> None:
    _, findings = read(devkit(tmp_path, {"000003": annotation(thing("dog"), filename=filename)}))
    assert not [line for line in findings.warnings if "filename" in line]


def test_a_byte_order_mark_in_xml_is_fine(tmp_path: Path) -> None:
    path = devkit(tmp_path, {"1": b"\xef\xbb\xbf" + annotation(thing("dog")).encode()})
    assert named(read(path)[0].manifests[0], 0) == ({"dog"}, set())
