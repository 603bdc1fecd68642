"""From the annotations of each source to a report, on trees that follow its layout, with a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets.dataset import Dataset
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.datasets.readers.voc import LABELS as VOC
from mlrec.datasets.readers.wider import LABELS as WIDER
from mlrec.reports.render.terminal import render_text
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.data.stats import stats
from mlrec.workflows.evaluate.evaluate import evaluate_run
from mlrec.workflows.report.report import report
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.train import train
from tests.tiny import FAST

SEED = np.random.default_rng(0)


def picture(path: Path, width: int = 60, height: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(SEED.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


def wider(root: Path) -> Path:
    """Eight pictures of two or three persons; one box leaves its picture, one is given backwards, one has no area."""
    for split, names in (("trainval", ("train", "val")), ("test", ("test",))):
        images = []
        for folder in names:
            for k in range(4):
                name = f"{folder}/0--Parade/{k}.jpg"
                picture(root / "Image" / name)
                boxes = [[2, 2, 20, 30], [30, 5, 50, 50], [50, 38, -20, -30]] + ([[5, 5, 0, 9]] if k == 0 else [])
                targets = [{"attribute": SEED.integers(-1, 2, 14).tolist(), "bbox": box} for box in boxes]
                images.append({"file_name": name, "scene_id": 0, "targets": targets})
        content = {"images": images, "attribute_id_map": {str(k): name for k, name in enumerate(WIDER)}}
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"wider_attribute_{split}.json").write_text(json.dumps(content))
    return root


def voc2012(root: Path) -> Path:
    year = root / "VOC2012"
    lists = {"train": range(8), "val": range(8, 14), "trainval": range(14), "test": range(14, 18)}
    for folder in ("Annotations", "ImageSets/Main"):
        (year / folder).mkdir(parents=True)
    for split, numbers in lists.items():
        (year / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"2008_{k:06}\n" for k in numbers))
    for k in range(18):
        picture(year / f"JPEGImages/2008_{k:06}.jpg")
        if k < 14:
            names = [VOC[k % 3], VOC[14]]
            objects = "".join(
                f"<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
                "<part><name>head</name></part></object>"
                for name in names
            )
            (year / f"Annotations/2008_{k:06}.xml").write_text(f"<annotation>{objects}</annotation>")
    return root


def yolo(root: Path) -> Path:
    for split, count in (("train", 8), ("val", 5)):
        (root / "labels" / split).mkdir(parents=True)
        for k in range(count):
            picture(root / f"images/{split}/{k}.png")
            (root / f"labels/{split}/{k}.txt").write_text(f"{k % 2} .5 .5 .2 .2\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return root


SOURCES = {
    "wider": (wider, ("trainval", "test"), 14),
    "voc2012": (voc2012, ("train", "val"), 20),
    "yolo": (yolo, ("train", "val"), 2),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_prepare_train_eval_report(kind: str, tmp_path: Path) -> None:
    make, (trained, scored), labels = SOURCES[kind]
    dataset = prepare(kind, make(tmp_path / "source"), out=tmp_path / "data", options=ReadOptions())
    flags = {**FAST, "data": str(dataset.path), "epochs": 1}
    run = train(flags, out=tmp_path / "runs")
    assert (run.record.config["train_split"], run.record.config["split"]) == (trained, scored)
    found = evaluate_run(run.path, machine=RuntimeOptions(workers=0, device="cpu"))
    assert found.metrics == run.metrics()
    assert found.predictions.logits.shape == (len(dataset.manifest(scored)), labels)
    assert dataset.info.name in render_text([report([run.path]).table])
    assert stats(dataset.path).labels == dataset.manifest(scored).labels


def test_wider_boxes_are_corrected_and_reported(tmp_path: Path) -> None:
    place = tmp_path / "data/wider"
    told = CliRunner().invoke(app, ["prepare", "wider", str(wider(tmp_path)), "--out", str(place.parent)]).output
    assert "trainval: 24 of 26 annotated samples are used; the paper has 28,345" in told
    assert "test: 12 of 13 annotated samples are used; the paper has 29,179" in told
    dataset = Dataset.load(place)
    assert dataset.info.splits == {"train": 12, "val": 12, "trainval": 24, "test": 12}
    manifest = dataset.manifest("test")
    assert manifest.boxes is not None
    assert manifest.sample_ids[:3] == tuple(f"Image/test/0--Parade/0.jpg#{k}" for k in range(3))
    assert manifest.boxes[:3].tolist() == [[2, 2, 20, 30], [30, 5, 30, 35], [30, 8, 20, 30]]
    assert dataset.info.skipped == {"boxes without area": 3}  # train, val, test; trainval repeats two of them
    assert any("boxes without area" in warning and "0.jpg#3" in warning for warning in dataset.info.warnings)
    assert Dataset.load(dataset.path).info.recipe == "paper"
