"""Thresholds are chosen on one split, judged on others, and used where they are asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets.dataset import Dataset
from mlrec.metrics.thresholds import find_thresholds
from mlrec.predictions import Predictions, probabilities_of
from mlrec.run_folders.record import Run, RunRecord, SplitRecord
from mlrec.run_folders.tuned import Tuned, tuned_file
from mlrec.utils.errors import RunError, UsageError
from mlrec.utils.files import write_json
from mlrec.workflows.deploy.predict import open_scorer, predict, with_tuned
from mlrec.workflows.evaluate.evaluate import evaluate_run, seen_in_training
from mlrec.workflows.evaluate.tune import _folds, tune
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.train import train
from tests.conftest import Notes
from tests.tiny import FAST, LABELS, make_tiny

HERE = RuntimeOptions(workers=0, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tune"))


@pytest.fixture(scope="module")
def run(data: Path) -> Run:
    return train({**FAST, "data": str(data), "epochs": 1}, out=data.parents[1] / "runs")


def test_the_file_contains_the_chosen_thresholds(run: Run) -> None:
    found = tune(run.path, split="train", target="f1", least=2, machine=HERE)
    stored = Tuned.load(run.path)
    predictions = Predictions.load(run.path / "eval-tiny-train" / "predictions.npz")
    assert predictions.targets is not None
    expected = find_thresholds(predictions.logits, predictions.targets, "F1", least=2)
    np.testing.assert_array_equal(stored.thresholds, expected.values)
    assert (stored.dataset, stored.split, stored.samples, stored.target) == ("tiny", "train", 13, "F1")
    assert stored == found.tuned
    assert list(stored.labels) == list(LABELS)
    on = [judged.on for judged in found.judged]
    assert on[0] == on[1]
    assert on[0].startswith("tiny train")
    assert on[2:] == ["tiny val, 9 samples"] * 2
    assert found.judged[2].rates["CF1"] == pytest.approx(run.metrics().CF1)


def test_tuning_on_training_samples_or_the_reported_split_warns(run: Run, notes: Notes) -> None:
    found = tune(run.path, split="train", least=2, machine=HERE)
    assert found.tuned.trained_on == 13
    assert "trained on 13 of the 13 samples in train" in notes.warnings[0]
    notes.warnings.clear()
    found = tune(run.path, split="val", least=2, machine=HERE)
    assert "chosen on tiny/val, on which this run also reports its metrics" in notes.warnings[0]
    assert len(found.judged) == 2  # cross-fitted only


def test_a_training_split_that_no_longer_exists_is_not_counted(tmp_path: Path) -> None:
    data = Dataset.load(make_tiny(tmp_path))
    train = SplitRecord("tiny", "csv", "train", 13, "", str(data.path))
    record = RunRecord(name="run", status="finished", config={}, train=train)
    assert seen_in_training(record, data.manifest("train")) == 13
    removed = structs.replace(record, train=structs.replace(train, split="fit-train-10"))
    assert seen_in_training(removed, data.manifest("train")) == 0


def test_cross_fitting_scores_each_sample_with_thresholds_of_the_others(run: Run) -> None:
    """Labels drawn by lot: chosen and judged on the same samples F1 rises, cross-fitted it must not."""
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 1, (9, 3)).astype(np.float32), rng.integers(0, 2, (9, 3)).astype(np.int8)
    original = run.predictions()
    replace(original, logits=logits, targets=targets).save(run.path / "predictions.npz")
    try:
        found = tune(run.path, split="val", target="precision", precision=1.0, least=1)
    finally:
        original.save(run.path / "predictions.npz")
    after = found.judged[1].rates
    said = logits >= found.tuned.thresholds
    assert said.any()
    assert (targets[said] == 1).all()  # on itself the precision holds
    assert after["OP"] is not None
    assert after["OP"] < 1


def test_images_with_a_number_sign_in_their_name_are_images_of_their_own() -> None:
    folds = list(_folds(("a#1.jpg", "a#2.jpg", "b.jpg#0", "b.jpg#1")))
    assert len(folds) == 3, "a#1.jpg and a#2.jpg are two images, the two persons of b.jpg are in one"
    assert all(fold[2] == fold[3] for fold in folds)


def test_eval_uses_the_thresholds_with_tuned(run: Run, notes: Notes) -> None:
    tune(run.path, split="train", target="OF1", least=2, machine=HERE)
    tuned = Tuned.load(run.path)
    plain = evaluate_run(run.path, split="val", machine=HERE)
    notes.warnings.clear()
    found = evaluate_run(run.path, split="val", tuned=True, machine=HERE)
    assert found.path.name == "eval-tuned-tiny-val"
    assert found.metrics.average_precision == plain.metrics.average_precision
    assert "tuned for OF1 on tiny train (13 samples)" in found.metrics.conventions.in_words()
    assert found.predictions.targets is not None
    said, true = found.predictions.logits >= tuned.thresholds, found.predictions.targets == 1
    known = found.predictions.targets >= 0
    expected = (said & true).sum() / max((said & known).sum(), 1)
    assert found.metrics.OP == pytest.approx(expected)
    assert not notes.warnings
    evaluate_run(run.path, split="train", tuned=True, machine=HERE)
    assert "were chosen on tiny/train itself" in notes.warnings[0]
    one = evaluate_run(run.path, split="val", tuned=True, labels=["red"], machine=HERE)
    assert one.metrics.counts["labels"] == 1


def test_predict_predicts_the_same_labels_with_calibrated_probabilities(run: Run, data: Path) -> None:
    tune(run.path, split="train", least=2, machine=HERE)
    tuned, manifest = Tuned.load(run.path), Dataset.load(data).manifest("val")
    scorer, thresholds = with_tuned(open_scorer(run.path, HERE), run.path)
    files = [manifest.root / name for name in manifest.images]
    logits = run.predictions().logits
    for k, found in enumerate(predict(scorer, files, threshold=thresholds, machine=HERE)):
        assert set(found.predicted) == {LABELS[c] for c in np.flatnonzero(logits[k] >= tuned.thresholds)}
        np.testing.assert_allclose(found.probabilities, probabilities_of(tuned.calibrated(logits[k])), atol=1e-5)


def test_the_command_line(run: Run, data: Path) -> None:
    runner = CliRunner()
    flags = [str(run.path), "--split", "train", "--min-positives", "2", "--workers", "0", "--device", "cpu"]
    result = runner.invoke(app, ["tune", *flags, "--min-precision", "0.9", "--json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["thresholds"]["target"] == "precision ≥ 0.9"
    assert set(content["judged"][0]["reliability"]) == {"nll", "brier", "ece"}
    shown = runner.invoke(app, ["tune", *flags])
    assert "Effect of tuning" in shown.stdout
    assert "Thresholds by label" in shown.stdout
    said = runner.invoke(app, ["predict", str(data.parents[1] / "pictures"), "--run", str(run.path), "--tuned"])
    assert said.exit_code == 0, said.output
    assert len(said.stdout.splitlines()) == 23
    both = runner.invoke(app, ["predict", "x.jpg", "--run", str(run.path), "--tuned", "--threshold", "0.5"])
    assert isinstance(both.exception, UsageError)


def test_invalid_tuning_is_an_error(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--min-precision"):
        tune(run.path, split="train", target="precision")
    with pytest.raises(UsageError, match="above 0"):
        tune(run.path, split="train", precision=1.5)
    with pytest.raises(RunError, match="run mlrec tune"):
        Tuned.load(tmp_path)
    tuned = Tuned.load(run.path)
    with pytest.raises(RunError, match="different labels"):
        tuned.ordered(("blue", "green"))
    assert list(tuned.ordered(LABELS[::-1]).labels) == list(LABELS[::-1])
    (tmp_path / "thresholds.json").write_text('{"format": "x"')
    with pytest.raises(RunError, match="tune again"):
        Tuned.load(tmp_path)
    content = json.loads(tuned_file(run.path).read_text())
    content["labels"]["red"]["slope"] = -1.0
    write_json(tmp_path / "thresholds.json", content)
    with pytest.raises(RunError, match="tune again"):
        Tuned.load(tmp_path)
    assert tuned_file("a/model.safetensors") == Path("a/thresholds.json")
    assert tuned_file("a/best.safetensors") == Path("a/best.thresholds.json")
