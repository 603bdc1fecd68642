"""CVAT for images, as literal files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrec.datasets.readers.cvat import read_cvat, recognizes
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.utils.errors import DataError, ValidationReport

LABELS = (
    "<label><name>dog</name><attributes><attribute><name>age</name></attribute></attributes></label>"
    "<label><name>cat</name></label><label><name>bird</name></label>"
)


def write(root: Path, images: str, labels: str = LABELS) -> Path:
    meta = f"<meta><task><name>pets</name><labels>{labels}</labels></task></meta>"
    text = f'<?xml version="1.0"?><annotations><version>1.1</version>{meta}{images}</annotations>'
    (root / "annotations.xml").write_text(text)
    return root


def read(path: Path, **options: object) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_cvat(path, ReadOptions(**options), findings), findings  # type: ignore[arg-type]


def test_tags_and_shapes_are_labels_in_the_order_of_the_task(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").touch()
    images = (
        '<image name="a.jpg" width="8" height="6"><tag label="cat"/><box label="dog"><attribute name="age">3'
        '</attribute></box></image><image name="sub/b.jpg"/>'
    )
    reading, findings = read(write(tmp_path, images))
    (manifest,) = reading.manifests
    assert (manifest.split, manifest.labels) == ("all", ("dog", "cat", "bird"))
    assert manifest.images == ("images/a.jpg", "images/sub/b.jpg")
    assert manifest.targets.tolist() == [[1, 1, 0], [0, 0, 0]]
    assert (reading.stated_sizes, findings.errors, findings.warnings) == ({"images/a.jpg": (8, 6)}, [], [])
    assert recognizes(tmp_path) == "annotations.xml is a CVAT for images XML file"


def test_subsets_of_a_project_are_splits_and_default_is_none(tmp_path: Path) -> None:
    for name in ("Train/a.jpg", "Validation/a.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True)
        (tmp_path / "images" / name).touch()
    images = '<image name="a.jpg" subset="Validation"><tag label="cat"/></image><image name="a.jpg" subset="Train"/>'
    reading, findings = read(write(tmp_path, images))
    assert not findings.errors
    assert {m.split: m.images for m in reading.manifests} == {
        "train": ("images/Train/a.jpg",),
        "val": ("images/Validation/a.jpg",),
    }
    (manifest,) = read(write(tmp_path, '<image name="c.jpg" subset="default"><tag label="cat"/></image>'))[0].manifests
    assert manifest.split == "all"


def test_a_label_that_the_task_does_not_have_is_an_error(tmp_path: Path) -> None:
    _, findings = read(write(tmp_path, '<image name="a.jpg"><tag label="dogs"/></image>'))
    assert findings.errors == [
        f"{tmp_path}/annotations.xml: image 1: 'dogs' is not a label of the task; did you mean 'dog'?"
    ]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ('<track id="1" label="dog"/>', LABELS, "contains video tracks"),
        ("<image/>", LABELS, "<image> number 1 has no name"),
        ('<image name="a.jpg"><box/></image>', LABELS, "image 'a.jpg': <box> has no label"),
        ("", LABELS, "contains no <image>"),
        ('<image name="a.jpg"/>', "", "lists no label"),
        ("<image", LABELS, "the XML is not well-formed at line 1"),
        ("<x>" * 200 + "</x>" * 200, LABELS, "elements are nested deeper than 100"),
    ],
)
def test_what_is_no_export_of_images_is_one_line(tmp_path: Path, images: str, labels: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, images, labels))


def test_entities_are_refused_and_names_stay_inside(tmp_path: Path) -> None:
    write(tmp_path, '<image name="../../etc/x.jpg"/>')
    _, findings = read(tmp_path)
    assert "is outside the image directory" in findings.errors[0]
    file = tmp_path / "annotations.xml"
    file.write_text(f'<!DOCTYPE a [<!ENTITY b "c">]>{file.read_text().partition("?>")[2]}')
    with pytest.raises(DataError, match="contains a DOCTYPE"):
        read(tmp_path)
