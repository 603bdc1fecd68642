"""A model scored anew: the same numbers on the same data, labels by name, and what has changed."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlrec.datasets import dataset
from mlrec.datasets.dataset import Dataset, Info
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.evaluate import evaluate
from mlrec.metrics.summary import Metrics
from mlrec.models.checkpoint import load_model
from mlrec.predictions import Predictions
from mlrec.reports.paper.table1 import LambdaSweep
from mlrec.run_folders.record import Run
from mlrec.training.prediction import InferenceOptions
from mlrec.training.tta import Views, predict_views
from mlrec.utils.errors import DataError, ModelError, PredictionsError, RunError, UsageError
from mlrec.utils.files import sha256
from mlrec.workflows.evaluate.evaluate import evaluate_run, resolve_eval_target
from mlrec.workflows.evaluate.lambda_sweep import LambdaSweepConfig, lambda_sweep
from mlrec.workflows.report.page import report_page
from mlrec.workflows.report.report import report, runs_at
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.train import train
from tests.conftest import Notes
from tests.tiny import FAST, LABELS, make_tiny

HERE = RuntimeOptions(workers=0, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def run(data: Path) -> Run:
    return train({**FAST, "data": str(data), "epochs": 1}, out=data.parents[1] / "runs")


def written(path: Path, manifest: Manifest) -> Path:
    path.mkdir()
    info = Info(manifest.name, {"kind": "csv"}, "paper", list(manifest.labels), {manifest.split: len(manifest)})
    dataset.write(path, info, [manifest])
    return path


def test_evaluation_repeats_the_metrics_and_does_not_change_the_run(run: Run, data: Path) -> None:
    before = {entry.name: sha256(entry) for entry in run.path.iterdir() if entry.is_file()}
    found = evaluate_run(run.path, machine=HERE)
    assert found.path == run.path / "eval-tiny-val"
    assert found.metrics == run.metrics() == Metrics.load(found.path / "metrics.json")
    assert np.array_equal(found.predictions.logits, run.predictions().logits)
    assert Predictions.load(found.path / "predictions.npz").sample_ids == run.predictions().sample_ids
    assert {entry.name: sha256(entry) for entry in run.path.iterdir() if entry.is_file()} == before
    facts = json.loads((found.path / "eval.json").read_text())
    assert facts["scored"]["digest"] == Dataset.load(data).manifest("val").digest
    assert facts["warnings"] == []


def test_the_last_finished_run_is_taken_when_none_is_named(run: Run, data: Path) -> None:
    target = resolve_eval_target(None, None, None, labels=None, runs_root=run.path.parent, data_root="")
    assert evaluate_run(target.model, machine=HERE).metrics == run.metrics()
    with pytest.raises(RunError, match="no finished run"):
        resolve_eval_target(None, None, None, labels=None, runs_root=data, data_root="")


def test_labels_in_another_order_are_matched_by_name(run: Run, data: Path, tmp_path: Path) -> None:
    turned = Dataset.load(data).manifest("val").reordered(LABELS[::-1])
    found = evaluate_run(run.path, data=written(tmp_path / "turned", turned), machine=HERE)
    assert found.predictions.labels == LABELS
    assert found.metrics == run.metrics()


def test_other_labels_are_refused_with_the_difference(run: Run, data: Path, tmp_path: Path) -> None:
    other = replace(Dataset.load(data).manifest("val"), labels=("blue", "green", "pink"))
    with pytest.raises(ModelError, match="missing 'red'; unexpected 'pink'"):
        evaluate_run(run.path, data=written(tmp_path / "other", other), machine=HERE)


def test_data_that_changed_since_the_run_cause_a_recorded_warning(
    run: Run, data: Path, tmp_path: Path, notes: Notes
) -> None:
    changed = Dataset.load(data).manifest("val").subset(range(8))
    found = evaluate_run(run.path, data=written(tmp_path / "changed", changed), machine=HERE)
    assert "tiny/val has changed since the run" in notes.warnings[0]
    assert json.loads((found.path / "eval.json").read_text())["warnings"] == notes.warnings


def test_labels_without_an_ap_are_named_and_recorded(run: Run, data: Path, tmp_path: Path) -> None:
    manifest = Dataset.load(data).manifest("val")
    targets = manifest.targets.copy()
    targets[:, 0] = 0
    lacking = replace(manifest, targets=targets)
    found = evaluate_run(run.path, data=written(tmp_path / "lacking", lacking), machine=HERE)
    warnings = json.loads((found.path / "eval.json").read_text())["warnings"]
    assert (
        f"split 'val' has no positives for 1 of {len(manifest.labels)} labels, so the AP of these labels is undefined: "
        in (warnings[-1])
    )
    assert warnings[-1].endswith(manifest.labels[0])


def test_a_subset_of_labels_and_other_conventions(run: Run) -> None:
    found = evaluate_run(run.path, labels=["red", "blue"], conventions="csra", machine=HERE)
    predictions = run.predictions()
    assert predictions.targets is not None
    expected = evaluate(
        predictions.logits[:, [2, 0]], predictions.targets[:, [2, 0]], labels=("red", "blue"), conventions="csra"
    )
    assert replace(found.metrics, by_frequency={}) == expected
    assert found.metrics.by_frequency["tail"].labels == 2
    assert found.predictions.labels == LABELS
    assert len((found.path / "per_label.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("given", "error"), [({"labels": ["rde"]}, PredictionsError), ({"conventions": "x"}, UsageError)]
)
def test_invalid_arguments_are_refused_before_any_image_is_read(
    run: Run, given: dict[str, object], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlrec.workflows.evaluate.evaluate._predict", None)
    with pytest.raises(error):
        evaluate_run(run.path, **given)  # type: ignore[arg-type]


def test_a_weights_file_without_a_run_is_evaluated(run: Run, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "best.safetensors"
    file.write_bytes((run.path / "model.safetensors").read_bytes())
    found = evaluate_run(file, data=data, split="train", machine=HERE)
    assert found.path == tmp_path / "best-eval-tiny-train"
    assert len(found.predictions.sample_ids) == 13
    with pytest.raises(DataError, match="no split 'tset'"):
        evaluate_run(file, data=data, split="tset", machine=HERE)
    with pytest.raises(ModelError, match="not a model; pass a run folder"):
        evaluate_run(tmp_path, data=data, machine=HERE)


def test_an_archive_that_the_voc_server_does_not_accept_is_refused_before_scoring(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scoring(*_: object, **__: object) -> None:
        raise AssertionError("the model was run")

    monkeypatch.setattr("mlrec.workflows.evaluate.evaluate.run_model", scoring)
    with pytest.raises(UsageError, match="20 classes of VOC, not for csv"):
        evaluate_run(run.path, machine=HERE, voc_server=tmp_path / "out.tgz")
    with pytest.raises(UsageError, match=r"use \.tgz"):
        evaluate_run(run.path, machine=HERE, voc_server=tmp_path / "out.zip")
    assert not list(tmp_path.iterdir())


def test_an_archive_for_the_voc_server_contains_the_predictions(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlrec.datasets.readers.voc.LABELS", LABELS)
    monkeypatch.setattr("mlrec.workflows.evaluate.voc_server.KINDS", ("csv",))
    scored = evaluate_run(run.path, machine=HERE, voc_server=tmp_path / "out.tgz")
    with tarfile.open(tmp_path / "out.tgz") as archive:
        stream = archive.extractfile("results/CSV/Main/comp2_cls_val_green.txt")
        assert stream is not None
        values = [np.float32(line.split()[1]) for line in stream.read().decode().splitlines()]
    assert np.array_equal(values, scored.predictions.logits[:, scored.predictions.labels.index("green")])


def test_other_batch_sizes_change_logits_little_and_map_less(run: Run) -> None:
    single = evaluate_run(run.path, machine=RuntimeOptions(batch_size=1, workers=0, device="cpu"))
    assert np.allclose(single.predictions.logits, run.predictions().logits, atol=1e-4)
    assert single.metrics.mAP == pytest.approx(run.metrics().mAP, abs=1e-6)


def test_an_evaluated_model_that_was_not_trained_here_is_a_row_of_reports(run: Run, tmp_path: Path) -> None:
    model, data = tmp_path / "imported" / "official", run.path.parents[1] / "data" / "tiny"
    model.mkdir(parents=True)
    shutil.copy(run.path / "model.safetensors", model)
    with pytest.raises(RunError, match="an imported model scored with mlrec eval"):
        report([model])
    scored = evaluate_run(model, data=data, machine=HERE)
    lambda_sweep(model, LambdaSweepConfig([0.0, 0.5], resamples=0), data=data, machine=HERE)  # of another λ: no row
    for place in (scored.path, model, model.parent):
        found = report([place])
        (row,) = found.rows
        assert (row.run, row.head, row.lam, row.resolution) == ("official", "csra", 0.1, 32)
        assert row.values["mAP"] == scored.metrics.mAP == run.metrics().mAP
        assert row.backbone == "test_efficientnet"
    assert "Hardest images of official" in report_page(found)
    swept = model / "lambda-tiny-val"
    for named in ([swept], [model], [model.parent], []):
        rows = [row for row in report(named, root=model.parent, table=1).table.rows if row.cells[-1] == "official"]
        (row,) = rows
        assert row.cells[2] == 32
        assert row.cells[3] == LambdaSweep.load(swept / "lambda.json").mAP[0]

    own = evaluate_run(run.path, machine=HERE)
    assert [one.path for one in runs_at([run.path.parent])] == [run.path], "a run stands for itself"
    assert [one.path for one in runs_at([own.path])] == [own.path], "its evaluation when it is named"


def test_views_are_averaged_in_a_folder_of_their_own(run: Run) -> None:
    found = evaluate_run(run.path, machine=replace(HERE, tta="flip,1"))
    assert found.path.name == "eval-tta-tiny-val"
    assert json.loads((found.path / "eval.json").read_text())["environment"]["tta"] == "flip,1"
    model, manifest = load_model(run.path), Dataset.load(run.record.scored.path).manifest("val")  # type: ignore[union-attr]
    options = InferenceOptions(batch_size=4, workers=0, device="cpu")
    expected = predict_views(model, manifest, options, views=Views(flip=True))
    np.testing.assert_array_equal(found.predictions.logits, expected.logits)
    assert not np.array_equal(found.predictions.logits, run.predictions().logits)
    with pytest.raises(UsageError, match="--tta flop"):
        evaluate_run(run.path, machine=replace(HERE, tta="flop"))
