"""Predictions in files of other tools: for review in Label Studio and FiftyOne, and as COCO results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

import mlrec
from mlrec.cli.app import app
from mlrec.datasets.dataset import Dataset, Info, write
from mlrec.datasets.manifest import Manifest
from mlrec.predictions import Predictions
from mlrec.utils.errors import PredictionsError, UsageError
from mlrec.workflows.data.export_data import export_data

LABELS = ("cat", "dog, small", "red")
SIZES = {"train": 5, "val": 6}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two splits; the last image of `val` is not labelled. A run has predictions for `val`, in another order."""
    rng, manifests = np.random.default_rng(0), []
    for split, size in SIZES.items():
        names = tuple(f"{split}/{k}.jpg" for k in range(size))
        targets = rng.integers(0, 2, (size, 3)).astype(np.int8)
        manifests.append(Manifest("pets", split, tmp_path / "images", LABELS, names, targets))
        for k, name in enumerate(names):
            (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6), (20 * k, len(split), 0)).save(tmp_path / "images" / name)
    manifests[1].targets[-1] = -1
    path = tmp_path / "data/pets"
    path.mkdir(parents=True)
    write(path, Info("pets", {"kind": "csv"}, "paper", list(LABELS), SIZES), manifests)
    logits = rng.normal(size=(6, 3)).astype(np.float32)
    order = (2, 0, 1)
    predictions = Predictions(
        tuple(LABELS[k] for k in order), manifests[1].images[::-1], logits[::-1][:, list(order)], digest="other"
    )
    (tmp_path / "runs/mine").mkdir(parents=True)
    predictions.save(tmp_path / "runs/mine/predictions.npz")
    np.save(tmp_path / "p.npy", 1 / (1 + np.exp(-logits.astype(np.float64))))
    return path


def reviewed(tasks: list[dict[str, Any]], corrections: dict[int, list[str]]) -> list[dict[str, Any]]:
    """What Label Studio exports (format JSON) after some of the imported tasks were corrected."""
    exported = []
    for task in tasks:
        annotations = [
            {
                "id": 70 + task["id"],
                "completed_by": 1,
                "was_cancelled": False,
                "ground_truth": False,
                "lead_time": 1.5,
                **annotation,
            }
            for annotation in task["annotations"]
        ]
        if task["id"] in corrections:
            choice = {"choices": corrections[task["id"]]}
            result = {
                "value": choice,
                "id": "a1",
                "from_name": "choice",
                "to_name": "image",
                "type": "choices",
                "origin": "manual",
            }
            annotations = [{"id": 70 + task["id"], "completed_by": 1, "was_cancelled": False, "result": [result]}]
        predictions = [{"id": 9, "created_ago": "1 minute", **prediction} for prediction in task["predictions"]]
        exported.append(
            {
                **task,
                "annotations": annotations,
                "predictions": predictions,
                "inner_id": task["id"],
                "total_annotations": 1,
            }
        )
    return exported


def test_a_review_in_label_studio_changes_exactly_the_corrected_labels(tmp_path: Path, data: Path) -> None:
    words = ["export-data", str(data), "--format", "labelstudio", "--predictions", str(tmp_path / "runs/mine")]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["labeling_config.xml", "val.json"]
    tasks = json.loads((tmp_path / "out/val.json").read_text())
    p = np.load(tmp_path / "p.npy")
    for task, row in zip(tasks, p, strict=True):
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == "mine"
        assert prediction["score"] == pytest.approx(np.abs(row - 0.5).min() + 0.5, abs=1e-6)
        chosen = [name for entry in prediction["result"] for name in entry["value"]["choices"]]
        assert chosen == [label for label, value in zip(LABELS, row, strict=True) if value >= 0.5]
        assert list(task["meta"]["probabilities"].values()) == pytest.approx(row.tolist(), abs=1e-6)
    assert tasks[-1]["annotations"] == []
    before = Dataset.load(data).manifest("val")
    (tmp_path / "out/val.json").write_text(json.dumps(reviewed(tasks, {2: ["cat", "red"], 6: ["dog, small"]})))
    words = ["prepare", "labelstudio", str(tmp_path / "out"), "--images", str(tmp_path / "images")]
    CliRunner().invoke(app, [*words, "--out", str(tmp_path / "again")], catch_exceptions=False)
    after = Dataset.load(tmp_path / "again/out").manifest("val")
    expected = before.targets.copy()
    expected[1], expected[5] = [1, 0, 1], [0, 1, 0]
    assert after.labels == before.labels
    assert after.images == before.images
    assert (after.targets == expected).all()


def test_a_review_in_fiftyone_changes_exactly_the_corrected_labels(tmp_path: Path, data: Path) -> None:
    folder, _ = export_data(data, format_="fiftyone", out=tmp_path / "out", predictions=tmp_path / "runs/mine")
    assert [entry.name for entry in folder.iterdir()] == ["val"]
    predicted = json.loads((folder / "val/predictions.json").read_text())
    for k, row in enumerate(np.load(tmp_path / "p.npy")):
        entries = {entry["label"]: entry["confidence"] for entry in predicted["labels"][f"val/{k}"]}
        assert entries == pytest.approx({c: value for c, value in enumerate(row.tolist()) if value >= 0.5}, abs=1e-6)
    truth = json.loads((folder / "val/labels.json").read_text())
    assert truth["labels"]["val/5"] is None
    before = Dataset.load(data).manifest("val")
    # what FiftyOne exports after a review, with confidences of labels that were taken from the predictions
    truth["labels"]["val/1"] = [{"label": 0, "confidence": 0.9, "attributes": {}}, {"label": 2}]
    (folder / "val/labels.json").write_text(json.dumps(truth))
    words = ["prepare", "fiftyone", str(folder), "--images", str(tmp_path / "images"), "--out", str(tmp_path / "again")]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    after = Dataset.load(tmp_path / "again/out").manifest("val")
    expected = before.targets.copy()
    expected[1] = [1, 0, 1]
    assert (after.targets == expected).all()


def test_coco_results_are_read_by_pycocotools_and_give_the_same_ap(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = export_data(
        data, format_="coco", out=tmp_path / "out", predictions=tmp_path / "runs/mine", unknown_as_negative=True
    )
    assert sorted(file.name for file in folder.iterdir()) == ["val-results.json", "val.json"]
    coco = COCO(str(folder / "val.json"))
    results = coco.loadRes(str(folder / "val-results.json"))
    scores, truth = np.full((6, 3), np.nan), np.zeros((6, 3), np.int8)
    for result in results.loadAnns(results.getAnnIds()):
        scores[result["image_id"] - 1, result["category_id"] - 1] = result["score"]
    for annotation in coco.loadAnns(coco.getAnnIds()):
        truth[annotation["image_id"] - 1, annotation["category_id"] - 1] = 1
    np.testing.assert_allclose(scores, np.load(tmp_path / "p.npy"), atol=1e-6)
    metrics = mlrec.evaluate(scores, truth, labels=LABELS, scores="probabilities")
    for column, label in enumerate(LABELS):
        expected = average_precision_score(truth[:, column], scores[:, column])
        assert metrics.average_precision[label] == pytest.approx(expected)
    capsys.readouterr()


def test_predictions_of_other_images_or_labels_are_errors(tmp_path: Path, data: Path) -> None:
    run = tmp_path / "runs/mine"
    with pytest.raises(PredictionsError, match=r"for 5 images of split 'train' \(first: 'train/0\.jpg'\)"):
        export_data(data, format_="fiftyone", out=tmp_path / "out", predictions=run, splits=["train"])
    with pytest.raises(
        UsageError,
        match="the csv format does not store predictions; choose one of the formats labelstudio, fiftyone, coco",
    ):
        export_data(data, out=tmp_path / "out", predictions=run)
    other = Predictions(("cat", "cow"), tuple(f"val/{k}.jpg" for k in range(6)), np.zeros((6, 2)))
    other.save(tmp_path / "other.npz")
    with pytest.raises(PredictionsError, match=r"other\.npz: label sets differ.*unexpected"):
        export_data(data, format_="fiftyone", out=tmp_path / "out", predictions=tmp_path / "other.npz")
    Predictions(LABELS, ("x.jpg",), np.zeros((1, 3))).save(tmp_path / "none.npz")
    with pytest.raises(PredictionsError, match=r"covers at least one complete split \(train, val\)"):
        export_data(data, format_="coco", out=tmp_path / "out", predictions=tmp_path / "none.npz")
    assert not (tmp_path / "out").exists()


LABEL_STUDIO = """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
interface = LabelInterface(open(sys.argv[1] + "/labeling_config.xml").read())
for task in json.load(open(sys.argv[1] + "/val.json")):
    assert interface.validate_task({"data": task["data"]})
    for annotation in task["annotations"]:
        assert interface.validate_annotation(annotation)
    for prediction in task["predictions"]:
        assert interface.validate_prediction(prediction, return_errors=True) == []
wrong = {"result": [{"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": ["cow"]}}]}
assert not interface.validate_prediction(wrong)
print("valid")
"""


def python_with(package: str, variable: str) -> str:
    """A Python with a package that is too large for the extra `dev`: this one, or the one that a variable names."""
    command = os.environ.get(variable, sys.executable)
    done = subprocess.run([command, "-c", f"import {package}"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no {package} here; install it, or name a Python that has it by {variable}")
    return command


@pytest.mark.long
def test_label_studio_accepts_tasks_annotations_and_predictions(tmp_path: Path, data: Path) -> None:
    command = python_with("label_studio_sdk", "LABEL_STUDIO_PYTHON")
    folder, _ = export_data(data, format_="labelstudio", out=tmp_path / "out", predictions=tmp_path / "runs/mine")
    done = subprocess.run([command, "-c", LABEL_STUDIO, str(folder)], capture_output=True, text=True, check=False)
    assert done.stdout == "valid\n", done.stderr


FIFTYONE = """
import os, sys
os.environ |= {"FIFTYONE_DO_NOT_TRACK": "1", "FIFTYONE_DATABASE_URI": "mongodb://localhost:1"}  # no database is needed
import fiftyone
from fiftyone.utils.data.exporters import FiftyOneImageClassificationDatasetExporter as Exporter
from fiftyone.utils.data.importers import FiftyOneImageClassificationDatasetImporter as Importer

folder, images, target = sys.argv[1:]
def read(name):
    importer = Importer(data_path=images, labels_path=f"{folder}/val/{name}.json")
    with importer:
        return [(path, label) for path, _, label in importer], importer.get_dataset_info().get("classes")
(truth, classes), (predictions, _) = read("labels"), read("predictions")
# the review: the second image gets what was predicted, with its confidences
truth[1] = (truth[1][0], next(label for path, label in predictions if path == truth[1][0]))
labels = f"{target}/labels.json"
options = {"export_media": False, "include_confidence": True, "rel_dir": images}  # names stay relative to the images
exporter = Exporter(data_path=images, labels_path=labels, classes=classes, **options)
with exporter:
    for path, label in truth:
        exporter.export_sample(path, label)
"""


@pytest.mark.long
def test_fiftyone_reads_labels_and_predictions_and_its_export_is_read_back(tmp_path: Path, data: Path) -> None:
    command = python_with("fiftyone", "FIFTYONE_PYTHON")
    folder, _ = export_data(data, format_="fiftyone", out=tmp_path / "out", predictions=tmp_path / "runs/mine")
    images, target = tmp_path / "images", tmp_path / "reviewed/val"
    target.mkdir(parents=True)
    words = [command, "-c", FIFTYONE, str(folder), str(images), str(target)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words = ["prepare", "fiftyone", str(target.parent), "--images", str(images), "--out", str(tmp_path / "again")]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    after, before = Dataset.load(tmp_path / "again/reviewed").manifest("val"), Dataset.load(data).manifest("val")
    expected = before.targets.copy()
    expected[1] = np.load(tmp_path / "p.npy")[1] >= 0.5
    assert after.labels == before.labels
    assert (after.targets == expected).all()
