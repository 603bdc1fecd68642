"""Good files with bytes changed at random: prepared, or refused in lines that can be printed; never a crash."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlrec.utils.errors import DataError
from mlrec.workflows.data.prepare import prepare

XML = b"""<?xml version="1.0" encoding="utf-8"?>
<annotation><filename>1.jpg</filename><size><width>16</width><height>12</height></size>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"""
JSON = json.dumps(
    {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 16, "height": 12}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5.5], "iscrowd": 0}],
        "categories": [{"id": 3, "name": "dog"}, {"id": 7, "name": "caf\u00e9"}],
    }
).encode()


def mutated(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place, kind = rng.randrange(len(data)), rng.randrange(4)
        if kind == 0:
            data[place] = rng.randrange(256)
        elif kind == 1 and len(data) > 40:
            del data[place : place + rng.randrange(1, 20)]
        elif kind == 2:
            data[place:place] = rng.randbytes(rng.randrange(1, 10))
        else:
            data[place:place] = data[place : place + rng.randrange(1, 60)]
    return bytes(data)


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """One image that is a VOC and a COCO dataset at once."""
    for folder in ("VOC2007/Annotations", "VOC2007/ImageSets/Main", "VOC2007/JPEGImages", "annotations", "train2017"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "VOC2007/ImageSets/Main/train.txt").write_text("1\n")
    (tmp_path / "VOC2007/Annotations/1.xml").write_bytes(XML)
    (tmp_path / "annotations/instances_train2017.json").write_bytes(JSON)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    for image in ("VOC2007/JPEGImages/1.jpg", "train2017/1.jpg"):
        Image.fromarray(pixels).save(tmp_path / image)
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("voc2007", "VOC2007/Annotations/1.xml"),
        ("voc2007", "VOC2007/ImageSets/Main/train.txt"),
        ("voc2007", "VOC2007/JPEGImages/1.jpg"),
        ("coco", "annotations/instances_train2017.json"),
    ],
)
def test_no_mutation_crashes(devkit: Path, kind: str, file: str) -> None:
    good = (devkit / file).read_bytes()
    prepare(kind, devkit, out=devkit / "data")
    refused = []
    for seed in range(60):
        (devkit / file).write_bytes(mutated(good, random.Random(seed)))
        try:
            prepare(kind, devkit, out=devkit / "data")
        except DataError as error:
            refused.append(str(error).splitlines())
    assert len(refused) > 5
    assert all(len(lines) <= 12 and "".join(lines).isprintable() for lines in refused)
