"""Every reader of files, on right files with something changed at random; those of models in their own file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlrec.config_layers import read_toml, resolve
from mlrec.datasets.dataset import Dataset
from mlrec.metrics.evaluate import evaluate
from mlrec.metrics.summary import Metrics
from mlrec.predictions import Predictions
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord, SplitRecord
from mlrec.utils.errors import ValidationReport
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.evaluate.score import read_truth, score
from tests.trust import trees
from tests.trust.fuzzing import CI, LONG, outlast

Reader = Callable[[], object]
Made = tuple[Path, Reader]
TOML = """base = "paper"
lr = 0.01
epochs = 3
temperatures = [1.0, 2.0, inf]
[data.coco]
batch_size = 8
[head.average]
lam = 0.0
"""


def annotations(kind: str, file: str, path: str = ".") -> Callable[[Path], Made]:
    def make(root: Path) -> Made:
        {"voc2007": trees.voc, "coco": trees.coco, "wider": trees.wider, "csv": trees.csv, "yolo": trees.yolo}[kind](
            root
        )
        return root / file, lambda: prepare(kind, root / path, out=root / "out", name="x", verify=False)

    return make


def image(root: Path) -> Made:
    trees.csv(root)
    return root / "img0.jpg", lambda: prepare("csv", root / "labels.csv", out=root / "out", name="x")


def prepared(file: str) -> Callable[[Path], Made]:
    def make(root: Path) -> Made:
        dataset = prepare("csv", trees.csv(root) / "labels.csv", out=root / "out", name="x").path

        def read() -> object:
            opened = Dataset.load(dataset)
            return [(opened.manifest(split).digest, len(opened.manifest(split))) for split in opened.info.splits]

        return dataset / file, read

    return make


def predictions(root: Path) -> Made:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(6, 3)).astype(np.float32), rng.integers(-1, 2, (6, 3)).astype(np.int8)
    Predictions(("a", "b", "c"), tuple("uvwxyz"), logits, targets, "0" * 64).save(root / "p.npz")
    return root / "p.npz", lambda: score(root / "p.npz")


def scores(root: Path) -> Made:
    trees.csv(root)
    trees.write(root / "p.csv", "filename,dog,cat\n" + "".join(f"img{k}.jpg,0.{k},1e-{k}\n" for k in range(4)))
    return root / "p.csv", lambda: score(root / "p.csv", root / "labels.csv")


def truth(root: Path) -> Made:
    trees.csv(root)
    return root / "labels.csv", lambda: read_truth(root / "labels.csv", None, None, ValidationReport())


def config(root: Path) -> Made:
    trees.write(root / "c.toml", TOML)

    def read() -> object:
        values = read_toml(root / "c.toml")
        return resolve(("c.toml", {key: value for key, value in values.items() if key != "base"}), source_kind="coco")

    return root / "c.toml", read


def record(root: Path) -> Made:
    used = SplitRecord("x", "csv", "test", 4, "0" * 64, str(root))
    RunRecord(name="r", status="finished", config={"lr": 0.1}, train=used, scored=used, notes=["a"]).save(root)
    return root / "run.json", lambda: RunRecord.load(root)


def metrics(root: Path) -> Made:
    evaluate(np.eye(3), np.eye(3, dtype=np.int8), scores="probabilities").save(root / "metrics.json")
    return root / "metrics.json", lambda: Metrics.load(root / "metrics.json")


def run_log(root: Path) -> Made:
    for step in range(3):
        directory.append_event(root, "steps", epoch=1, step=step, loss=0.5, lr=0.1)
    return root / "log.jsonl", lambda: directory.log_entries(root)


READERS: dict[str, Callable[[Path], Made]] = {
    "VOC XML": annotations("voc2007", "VOC2007/Annotations/000001.xml"),
    "VOC list": annotations("voc2007", "VOC2007/ImageSets/Main/val.txt"),
    "COCO JSON": annotations("coco", "annotations/instances_train2017.json"),
    "WIDER JSON": annotations("wider", "wider_attribute_annotation/wider_attribute_test.json"),
    "CSV": annotations("csv", "labels.csv", "labels.csv"),
    "YOLO yaml": annotations("yolo", "data.yaml"),
    "YOLO boxes": annotations("yolo", "labels/train/000001.txt"),
    "JPEG": image,
    "manifest": prepared("all.jsonl"),
    "dataset.json": prepared("dataset.json"),
    "predictions.npz": predictions,
    "scores CSV": scores,
    "truth CSV": truth,
    "config TOML": config,
    "run.json": record,
    "metrics.json": metrics,
    "log.jsonl": run_log,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_file_with_something_changed_is_read_or_refused_in_a_line(reader: str, tmp_path: Path) -> None:
    file, read = READERS[reader](tmp_path)
    assert outlast(file, file.read_bytes(), read, CI) or reader in ("log.jsonl",)


@pytest.mark.long
@pytest.mark.parametrize("reader", READERS)
def test_many_files_with_something_changed(reader: str, tmp_path: Path) -> None:
    file, read = READERS[reader](tmp_path)
    outlast(file, file.read_bytes(), read, LONG)
