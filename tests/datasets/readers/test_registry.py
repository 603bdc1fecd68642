"""Readers of other packages, and the functions that recognize kinds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from mlrec.datasets.readers.detect import GENERAL
from mlrec.datasets.readers.registry import (
    READERS,
    RECOGNIZERS,
    USED,
    known_readers,
    known_recognizers,
    reader_of,
    recognizer_of,
)
from mlrec.utils.errors import UsageError
from mlrec.workflows.data.prepare import prepare

MODULE = """
import numpy as np
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.registry import Reading

def recognizes(path):
    return "only herbarium.txt" if (path / "herbarium.txt").is_file() else None

def read(path, options, findings):
    names = (path / "herbarium.txt").read_text().split()
    manifest = Manifest("plants", "all", path.absolute(), ("leaf",), tuple(names), np.ones((len(names), 1), np.int8))
    return Reading("plants", [manifest], {"path": str(path)})
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with a reader of its own, and one that tries to replace a built-in reader."""
    site = tmp_path / "site"
    (site / "herbarium-1.0.dist-info").mkdir(parents=True)
    (site / "herbarium_reader.py").write_text(MODULE)
    (site / "herbarium-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: herbarium\nVersion: 1.0\n")
    (site / "herbarium-1.0.dist-info/entry_points.txt").write_text(
        "[mlrec.readers]\nherbarium = herbarium_reader:read\ncoco = herbarium_reader:read\n"
    )
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "herbarium_reader", raising=False)


@pytest.mark.usefixtures("plugin")
def test_another_package_adds_a_reader_but_replaces_none(tmp_path: Path) -> None:
    assert known_readers()["herbarium"] == "herbarium_reader:read"
    assert known_readers()["coco"] == READERS["coco"]
    (tmp_path / "plants").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "plants/a.png")
    (tmp_path / "plants/herbarium.txt").write_text("a.png\n")
    data = prepare("herbarium", tmp_path / "plants", out=tmp_path / "data")
    assert (data.info.labels, data.info.splits, data.info.source["kind"]) == (["leaf"], {"all": 1}, "herbarium")
    assert recognizer_of("herbarium")(tmp_path / "plants") == "only herbarium.txt"
    assert recognizer_of("coco") is not recognizer_of("herbarium")


def test_without_the_package_the_kind_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown dataset format 'herbarium'"):
        prepare("herbarium", tmp_path, out=tmp_path / "data")


def test_every_entry_leads_to_a_function() -> None:
    assert set(USED) <= set(READERS)
    assert set(RECOGNIZERS) <= set(READERS)
    for kind in READERS:
        assert callable(reader_of(kind))
    for kind in known_recognizers():
        assert callable(recognizer_of(kind))


def kinds_of(path: Path) -> list[str]:
    return [kind for kind in RECOGNIZERS if recognizer_of(kind)(path)]


XML = "<annotation><object><name>dog</name></object></annotation>"
TREES = {
    "voc2007": {"VOC2007/ImageSets/Main/train.txt": "1", "VOC2007/Annotations/1.xml": XML},
    "voc2012": {"VOCdevkit/VOC2012/ImageSets/Main/train.txt": "1"},
    "voc": {"train/a.xml": f"<?xml version='1.0'?>\n{XML}", "train/a.jpg": ""},
    "coco": {"valid/_annotations.coco.json": '{"info": {}, "images": []}', "valid/a.jpg": ""},
    "wider": {"Anno/wider_attribute_test.json": "{}"},
    "yolo": {"data.yaml": "names: [a]\ntrain: images\n", "images/a.jpg": "", "labels/a.txt": ""},
    "folders": {"train/cat/a.JPG": "", "train/dog/b.jpeg": "", "README.txt": "x"},
    "labelstudio": {"export.json": json.dumps([{"id": 1, "annotations": [], "data": {"image": "a.jpg"}}])},
    "cvat": {"annotations.xml": "<annotations><version>1.1</version></annotations>", "images/a.jpg": ""},
    "openimages": {"validation-annotations-human-imagelabels-boxable.csv": "ImageID\n", "validation/a.jpg": ""},
    "nuswide": {"ImageList/TestImagelist.txt": "", "Concepts81.txt": ""},
    "fiftyone": {"labels.json": '{"classes": null, "labels": {}}', "data/a.jpg": ""},
    "pa100k": {"annotation.mat": "MATLAB", "data/a.jpg": ""},
    "peta": {"PETA.mat": "MATLAB", "images/a.png": ""},
    "": {"notes.txt": "x", "a.json": "{}", "b.json": "[]", "c.yaml": "x: 1\n", "d.xml": "<x/>", "images/a.jpg": ""},
}


@pytest.mark.parametrize("kind", TREES)
def test_a_layout_is_recognized_as_its_own_kind_alone(tmp_path: Path, kind: str) -> None:
    for name, content in TREES[kind].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = [
        name for name in kinds_of(tmp_path) if name == kind or name not in GENERAL
    ]  # tables are parts of many exports
    assert found == ([kind] if kind else [])


def test_nothing_is_recognized_in_an_empty_folder_or_where_nothing_is(tmp_path: Path) -> None:
    assert kinds_of(tmp_path) == kinds_of(tmp_path / "none") == []
