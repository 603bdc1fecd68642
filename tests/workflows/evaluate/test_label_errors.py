"""Planted label errors are found, by models of held-out folds or by given predictions."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from PIL import Image

from mlrec.datasets.dataset import Dataset
from mlrec.metrics.label_errors import to_review
from mlrec.metrics.scores import read_scores
from mlrec.predictions import Predictions, probabilities_of
from mlrec.utils.errors import UsageError, ValidationReport
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.evaluate.label_errors import SHEET, TABLE, LabelErrors, label_errors, summary
from mlrec.workflows.evaluate.score import read_truth
from tests.conftest import Notes

SAMPLES, WRONG = 48, {(5, 0), (20, 1), (33, 0)}
FLAGS = {
    "backbone": "test_resnet", "pretrained": False, "weights": None, "img_size": 32, "head": "average", "epochs": 40,
    "batch_size": 8, "lr": 0.03, "workers": 0, "device": "cpu",
}  # fmt: skip


def colors(root: Path) -> Path:
    """Red makes the one label, blue the other; three of the 96 labels are wrong."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (SAMPLES, 2))
    lines = ["filename,red,blue"]
    for k, (red, blue) in enumerate(truth.tolist()):
        pixels = rng.integers(0, 60, (32, 32, 3)) + np.array([190 * red, 0, 190 * blue])
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{k}.png")
        said = [value ^ ((k, label) in WRONG) for label, value in enumerate((red, blue))]
        lines.append(f"{k}.png,{said[0]},{said[1]}")
    (root / "colors.csv").write_text("\n".join(lines) + "\n")
    return prepare("csv", root / "colors.csv", out=root / "data").path


def test_folds_find_planted_label_errors(tmp_path: Path) -> None:
    path = colors(tmp_path)
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
    assert {(s.sample, s.label) for s in doubts.to_review} >= WRONG
    table = summary(doubts)
    assert {row.cells[0] for row in table.rows} == {"red", "blue"}
    assert f"{len(doubts.to_review)} annotations to review; expected" in table.footnotes[0]
    assert len(list((tmp_path / "out/folds").iterdir())) == 2


def test_predictions_of_a_split_need_no_training(tmp_path: Path) -> None:
    path = colors(tmp_path)
    manifest = Dataset.load(path).manifest("all")
    logits = np.where(manifest.targets == 1, 3.0, -3.0)
    logits[7, 1] *= -1
    Predictions(manifest.labels, manifest.sample_ids, logits).save(tmp_path / "own.npz")
    doubts = label_errors(path, predictions=tmp_path / "own.npz", split_name="all", out=tmp_path / "out")
    assert (doubts.found[0].sample, doubts.found[0].label) == (7, 1)
    assert len((tmp_path / "out" / TABLE).read_text().splitlines()) == 2
    given = int(manifest.targets[7, 1])
    errors = {row.cells[0]: row.cells[1:] for row in summary(doubts).rows}
    assert errors["red"] == (0, 0, 0, 0)
    assert errors["blue"] == ((1, 1, 0, 0) if given else (0, 0, 1, 1))  # one of the label's n, n - 1 are right
    with pytest.raises(UsageError, match="--split requires --predictions"):
        label_errors(path, split_name="all", out=tmp_path / "out")


def test_a_model_that_is_never_sure_does_not_list_all_positives(tmp_path: Path, notes: Notes) -> None:
    """As cleanlab: the probability of `red` stays below 0.5, and only the one that is far too low is listed."""
    path = colors(tmp_path)
    manifest = Dataset.load(path).manifest("all")
    probabilities = np.where(manifest.targets == 1, 0.4, 0.05)
    first = int(np.flatnonzero(manifest.targets[:, 0] == 1)[0])
    probabilities[first, 0] = 0.001
    rows = [",".join(map(str, [name, *row])) for name, row in zip(manifest.images, probabilities.tolist(), strict=True)]
    (tmp_path / "p.csv").write_text("\n".join(["filename,red,blue", *rows]) + "\n")
    doubts = label_errors(path, predictions=tmp_path / "p.csv", split_name="all", out=tmp_path / "out")
    assert [(s.sample, s.label) for s in doubts.to_review] == [(first, 0)]
    theirs = find_label_issues(
        manifest.targets[:, 0].astype(int), np.stack([1 - probabilities[:, 0], probabilities[:, 0]], axis=1),
        filter_by="confident_learning", n_jobs=1,
    )  # fmt: skip
    assert np.flatnonzero(theirs).tolist() == [first]
    assert sum(s.error_score >= 0.5 for s in doubts.found) > 20
    assert any("treated as probabilities" in text for text in notes.lines)


def test_labels_whose_errors_cannot_be_estimated_are_named(tmp_path: Path) -> None:
    path = colors(tmp_path)
    manifest = Dataset.load(path).manifest("all")
    review = to_review(np.where(manifest.targets == 1, -3.0, 3.0), np.ones_like(manifest.targets))
    table = summary(LabelErrors(replace(manifest, targets=np.ones_like(manifest.targets)), [], review, tmp_path))
    assert [row.cells for row in table.rows] == [("red", 0, None, 0, None), ("blue", 0, None, 0, None)]


def test_on_real_scores_the_list_equals_that_of_cleanlab(realdata: Path) -> None:
    """ResNet-18 on VOC2012 val: 396 of the `person` labels have p < 0.5, of which 104 are listed."""
    scored = read_scores(realdata / "scores/resnet18_predictions.csv", ValidationReport())
    truth = read_truth(realdata / "scores/truth.csv", None, None, ValidationReport())
    scores = scored.against(truth)
    review = to_review(scores.logits, truth.targets)
    column = truth.labels.index("person")
    p, given = probabilities_of(scores.logits[:, column]), truth.targets[:, column].astype(int)
    theirs = find_label_issues(given, np.stack([1 - p, p], axis=1), filter_by="confident_learning", n_jobs=1)
    assert np.array_equal(review.flags[:, column], theirs)
    assert int((p[given == 1] < 0.5).sum()) == 396
    assert int((review.flags[:, column] & (given == 1)).sum()) == 104
