"""Small right datasets of every kind, for tests to spoil: COCO, VOC, WIDER, YOLO and CSV, two to four images each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mlrec.datasets.readers.wider import LABELS

XML = """<?xml version="1.0" encoding="utf-8"?>
<annotation><filename>{name}.jpg</filename><size><width>16</width><height>12</height><depth>3</depth></size>
<object><name>{label}</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>
"""
NAMES = {"train": ("000001", "000002"), "val": ("000003", "000004")}


def picture(path: Path, seed: int) -> None:
    """A JPEG of noise, 16 x 12; another for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)


def coco(root: Path) -> Path:
    for split, names in NAMES.items():
        for name in names:
            picture(root / f"{split}2017/{name}.jpg", int(name))
        write(root / f"annotations/instances_{split}2017.json", json.dumps(coco_content(names)))
    return root


def coco_content(names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "images": [{"id": int(n), "file_name": f"{n}.jpg", "width": 16, "height": 12} for n in names],
        "annotations": [
            {"id": 10 + int(n), "image_id": int(n), "category_id": 3 + int(n) % 2, "bbox": [1, 1, 5, 5], "iscrowd": 0}
            for n in names
        ],
        "categories": [{"id": 3, "name": "person"}, {"id": 4, "name": "dog"}],
    }


def voc(root: Path) -> Path:
    year = root / "VOC2007"
    for split, names in NAMES.items():
        for name in names:
            picture(year / f"JPEGImages/{name}.jpg", int(name))
            write(year / f"Annotations/{name}.xml", XML.format(name=name, label="dog"))
        write(year / f"ImageSets/Main/{split}.txt", "\n".join(names) + "\n")
    return root


def wider(root: Path) -> Path:
    for split, folder in (("trainval", "train"), ("test", "test")):
        images = []
        for k in range(2):
            name = f"{folder}/0--Parade/0_Parade_{k}.jpg"
            picture(root / "Image" / name, 10 * len(split) + k)
            person = {"attribute": [(k + j) % 3 - 1 for j in range(14)], "bbox": [1, 1, 8, 9.5]}
            images.append({"file_name": name, "scene_id": 0, "targets": [person]})
        named = {str(k): label for k, label in enumerate(LABELS)}
        content = json.dumps({"images": images, "attribute_id_map": named})
        write(root / f"wider_attribute_annotation/wider_attribute_{split}.json", content)
    return root


def yolo(root: Path) -> Path:
    for split, names in NAMES.items():
        for name in names:
            picture(root / f"images/{split}/{name}.jpg", int(name))
            write(root / f"labels/{split}/{name}.txt", f"{int(name) % 2} .5 .5 .1 .1\n")
    write(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames: {0: dog, 1: cat}\n")
    return root


def csv(root: Path) -> Path:
    for k in range(4):
        picture(root / f"img{k}.jpg", k)
    write(root / "labels.csv", "filename,cat,dog\nimg0.jpg,1,0\nimg1.jpg,0,1\nimg2.jpg,1,-1\nimg3.jpg,0,1\n")
    return root


def write(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
