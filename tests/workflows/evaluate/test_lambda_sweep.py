"""λ at test time on a run: λ = 0 is the run, and what is written says how λ was come by."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets.readers.shapes import draw_shapes
from mlrec.predictions import Predictions
from mlrec.reports.paper.table1 import sweeps_of
from mlrec.run_folders.record import Run
from mlrec.utils.errors import DataError, ModelError, RunError, UsageError
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.evaluate.lambda_sweep import LambdaSweepConfig, lambda_sweep
from mlrec.workflows.report.by_size import size_report
from mlrec.workflows.report.report import report
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.train import train
from tests.conftest import Notes
from tests.tiny import FAST, LABELS, make_tiny

HERE = RuntimeOptions(workers=0, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("lambda"))


def run_with(data: Path, **keys: object) -> Run:
    return train({**FAST, "data": str(data), "epochs": 1, **keys}, out=data.parents[1] / "runs")


@pytest.fixture(scope="module")
def run(data: Path) -> Run:
    return run_with(data, head="average")


def test_lambda_zero_equals_the_run_and_all_lambdas_come_from_one_pass(run: Run) -> None:
    found = lambda_sweep(run.path, LambdaSweepConfig([0.5, 0.2, 1.0], resamples=50), machine=HERE)
    sweep = found.sweep
    assert sweep.lams == [0.0, 0.2, 0.5, 1.0]
    assert sweep.mAP[0] == run.metrics().mAP == sweep.metrics["zero"]["raw"]["mAP"]
    assert (sweep.fixed_lam, sweep.head, sweep.form) == (0.2, "average", "raw")
    assert sweep.best == max(sweep.mAP)
    assert sweep.gain is not None
    assert sweep.gain.low >= 0
    assert sweep.select_split is None
    assert sweeps_of(run.path) == {found.path: sweep}
    assert sweep.labels == list(LABELS)
    fixed = Predictions.load(found.path / "predictions.npz")
    assert json.loads((found.path / "metrics.json").read_text())["mAP"] == pytest.approx(sweep.fixed)
    zero = lambda_sweep(run.path, LambdaSweepConfig([0.0], resamples=0, divide=True), machine=HERE)
    divided = Predictions.load(zero.path / "predictions.npz")
    assert np.allclose(divided.logits * 1.2, fixed.logits, atol=1e-5)
    assert zero.sweep.form == "divided"


def test_lambda_chosen_on_another_split_has_no_dagger(run: Run, notes: Notes) -> None:
    question = LambdaSweepConfig([0.5, 1.0], select_on="train", resamples=50)
    found = lambda_sweep(run.path, question, machine=HERE)
    assert "the model was trained on 13 of the 13 samples in train" in notes.warnings[0]
    assert found.sweep.select_split == "train"
    own = [row for row in report([run.path], table=1).table.rows if row.cells[1] == "own"]
    assert [row.marks for row in own] == [{}]
    assert "best on train" in [row.cells[0] for row in found.tables[0].rows]
    with pytest.raises(DataError, match="no split 'tset'"):
        lambda_sweep(run.path, LambdaSweepConfig([0.5], select_on="tset"), machine=HERE)
    with pytest.raises(UsageError, match="--select-on val: this split shares 9 images with the scored split"):
        lambda_sweep(run.path, LambdaSweepConfig([0.5], select_on="val"), machine=HERE)


def test_lambda_and_temperature_of_csra_at_test_time_are_distinguished_from_training(data: Path) -> None:
    run = run_with(data, head="csra", heads=1, lam=0.3)
    question = LambdaSweepConfig([0.1, 0.3], temperatures=(1.0, math.inf), resamples=0)
    found = lambda_sweep(run.path, question, machine=HERE)
    assert found.sweep.fixed_lam == 0.3
    assert found.sweep.fixed == pytest.approx(run.metrics().mAP)
    assert [len(row) for row in found.sweep.by_temperature] == [3, 3]
    assert found.sweep.best == max(max(row) for row in found.sweep.by_temperature)
    assert any("only at test time" in note for note in found.tables[0].footnotes)
    assert [row.cells[2] for row in found.tables[0].rows][:2] == ["1", "1"]
    with pytest.raises(ModelError, match="spatial head, which has no average"):
        lambda_sweep(run_with(data, head="spatial").path, LambdaSweepConfig([0.1]), machine=HERE)


def test_seeds_make_one_row_of_table_1_each_compared_with_its_own_zero(data: Path, tmp_path: Path) -> None:
    runs = [
        train({**FAST, "data": str(data), "epochs": 1, "head": "average", "seed": seed}, out=tmp_path)
        for seed in (0, 1)
    ]
    found = [lambda_sweep(run.path, LambdaSweepConfig([0.5], resamples=50), machine=HERE) for run in runs]
    table = report([tmp_path], table=1).table
    (own,) = [row for row in table.rows if row.cells[1] == "own"]
    cells = dict(zip([column.key for column in table.columns], own.cells, strict=True))
    assert cells["seeds"] == 2
    assert cells["baseline"] == pytest.approx(np.mean([run.metrics().mAP for run in runs]))
    assert cells["fixed_difference"] == pytest.approx(np.mean([one.sweep.fixed - one.sweep.mAP[0] for one in found]))
    assert cells["fixed_low"] <= cells["fixed_difference"] <= cells["fixed_high"]
    each = [row for row in report([tmp_path], table=1, each=True).table.rows if row.cells[1] == "own"]
    assert len(each) == 2


def test_ap_by_size_needs_annotated_objects(tmp_path: Path, run: Run) -> None:
    draw_shapes(tmp_path / "shapes", images={"train": 24, "val": 24})
    dataset = prepare("shapes", tmp_path / "shapes", out=tmp_path / "data")
    trained = run_with(dataset.path, head="average")
    found = lambda_sweep(trained.path, LambdaSweepConfig([0.0], by_size=True, resamples=20), machine=HERE)
    assert len(found.size_bins) == 7
    assert sum(s.pairs for s in found.size_bins if s.kind == "size") == trained.metrics().counts["positives"]
    few = [label for label, value in trained.metrics().average_precision.items() if value is not None][:2]
    alone = lambda_sweep(trained.path, LambdaSweepConfig([0.0], by_size=True, resamples=0), labels=few, machine=HERE)
    assert max(s.labels for s in alone.size_bins) <= 2
    csra = run_with(dataset.path, head="csra")
    table = size_report([trained.path, csra.path], resamples=100)
    assert [column.block or column.title for column in table.columns][3:5] == [
        "test_efficientnet",
        table.columns[4].block,
    ]
    assert "CSRA" in table.columns[4].block
    assert [row.cells[3] for row in table.rows] == [s.mAP[0] for s in found.size_bins]
    seeds = size_report([trained.path, csra.path, run_with(dataset.path, head="csra", seed=1).path], resamples=100)
    assert [column.key for column in seeds.columns] == [column.key for column in table.columns]
    assert "n = 1" not in seeds.footnotes[-1]
    assert "these trained models" in table.footnotes[-1]
    with pytest.raises(RunError, match="scored on different data"):
        size_report([trained.path, run.path])
    assert "by_extent" in json.loads((found.path / "lambda.json").read_text())
    with pytest.raises(DataError, match="has no annotated objects"):
        lambda_sweep(run.path, LambdaSweepConfig([0.0], by_size=True, resamples=0), machine=HERE)


@pytest.mark.parametrize("question", [{"lams": [-1.0]}, {"lams": []}, {"lams": [0.1], "temperatures": (0.0,)}])
def test_an_invalid_grid_is_refused(question: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        LambdaSweepConfig(**question)  # type: ignore[arg-type]


@pytest.mark.parametrize("flags", [["--lam", "0.1", "--localize"], ["--by-size", "--tuned"]])
@pytest.mark.parametrize("command", ["eval", "lambda-sweep"])
def test_flags_of_eval_are_refused_by_the_lambda_sweep(command: str, flags: list[str]) -> None:
    result = CliRunner().invoke(app, [command, "nowhere", *flags])
    assert result.exit_code == 2
    assert f"no such option: {flags[-1]}" in result.output.lower()
