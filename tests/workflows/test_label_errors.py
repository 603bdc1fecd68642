"""Planted label errors are found, by models of held-out folds or by given predictions."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlrec.datasets.folder import Dataset
from mlrec.errors import UsageError
from mlrec.predictions import Predictions
from mlrec.workflows.label_errors import SHEET, TABLE, label_errors, summary
from mlrec.workflows.prepare import prepare

SAMPLES, WRONG = 48, {(5, 0), (20, 1), (33, 0)}
FLAGS = {
    "backbone": "test_resnet", "pretrained": False, "weights": None, "img_size": 32, "head": "average", "epochs": 40,
    "batch_size": 8, "lr": 0.03, "workers": 0, "device": "cpu",
}  # fmt: skip


def colours(root: Path) -> Path:
    """Red makes the one label, blue the other; three of the 96 labels are wrong."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (SAMPLES, 2))
    lines = ["filename,red,blue"]
    for k, (red, blue) in enumerate(truth.tolist()):
        pixels = rng.integers(0, 60, (32, 32, 3)) + np.array([190 * red, 0, 190 * blue])
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{k}.png")
        said = [value ^ ((k, label) in WRONG) for label, value in enumerate((red, blue))]
        lines.append(f"{k}.png,{said[0]},{said[1]}")
    (root / "colours.csv").write_text("\n".join(lines) + "\n")
    return prepare("csv", root / "colours.csv", out=root / "data").path


def test_folds_find_what_was_planted(tmp_path: Path) -> None:
    path = colours(tmp_path)
    doubts = label_errors(path, folds=2, flags=FLAGS, out=tmp_path / "out")
    assert {(s.sample, s.label) for s in doubts.found[: len(WRONG)]} == WRONG
    with (tmp_path / "out" / TABLE).open() as stream:
        first = next(csv.DictReader(stream))
    assert first["filename"] in {"5.png", "20.png", "33.png"}
    assert float(first["doubt"]) > 0.5
    with Image.open(tmp_path / "out" / SHEET) as sheet:
        assert sheet.width > 600
    judged = Predictions.load(tmp_path / "out/predictions.npz")
    assert judged.digest == Dataset.load(path).manifest("all").digest
    assert {row.cells[0] for row in summary(doubts).rows} == {"red", "blue"}
    assert len(list((tmp_path / "out/folds").iterdir())) == 2


def test_predictions_of_a_split_need_no_training(tmp_path: Path) -> None:
    path = colours(tmp_path)
    manifest = Dataset.load(path).manifest("all")
    logits = np.where(manifest.targets == 1, 3.0, -3.0)
    logits[7, 1] *= -1
    Predictions(manifest.labels, manifest.sample_ids, logits).save(tmp_path / "own.npz")
    doubts = label_errors(path, predictions=tmp_path / "own.npz", split_name="all", out=tmp_path / "out")
    assert (doubts.found[0].sample, doubts.found[0].label) == (7, 1)
    assert len((tmp_path / "out" / TABLE).read_text().splitlines()) == 2
    with pytest.raises(UsageError, match="--split says what --predictions are of"):
        label_errors(path, split_name="all", out=tmp_path / "out")
