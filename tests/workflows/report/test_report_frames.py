"""Runs, reports, comparisons and statistics as data frames and as files for pandas."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from typer.testing import CliRunner

import mlrec
from mlrec.cli.app import app
from mlrec.datasets import dataset
from mlrec.reports.render.formats import write_tables
from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils.errors import MlrecError, PredictionsError, RunError, UsageError
from mlrec.utils.frame_files import write_frames
from mlrec.workflows.report.compare import compare_runs
from tests.reports.builders import LABELS, write_run

HEAD = ["group", "method", "backbone", "resolution", "heads", "lam", "mAP"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 4)) < [0.1, 0.6, 0.6, 0.7]).astype(np.int8)
    for name, lam in (("a", 0.1), ("b", 0.3)):
        logits = targets + rng.normal(size=(60, 4))
        write_run(tmp_path / "runs", name, config={"lam": lam}, logits=logits, targets=targets, seconds={"train": 7.5})
    write_run(tmp_path / "runs/study", "c", status="failed", config={"temperatures": [1.0, "inf"]})
    (tmp_path / "runs/study/c/metrics.json").unlink()
    return tmp_path


def test_one_row_per_run_with_settings_metrics_and_lineage(folder: Path) -> None:
    frame = mlrec.runs(folder / "runs")
    assert frame.index.tolist() == ["a", "b", "study/c"]
    assert frame["status"].tolist() == ["finished", "finished", "failed"]
    assert frame["config.lam"].tolist() == [0.1, 0.3, 0.1]
    assert frame.loc["study/c", "config.temperatures"] == "1.0,inf"
    stored = mlrec.Metrics.load(folder / "runs/b/metrics.json")
    assert frame.loc["b", list(stored.flat())].astype(float).to_dict() == stored.flat()
    assert np.isnan(frame.loc["study/c", "mAP"])
    assert set(frame["lineage.weights"]) == {"resnet101.tv_in1k"}
    assert frame.loc["a", "seconds.train"] == 7.5
    assert frame.groupby("config.temperatures", dropna=False)["mAP"].count().tolist() == [0, 2]
    with pytest.raises(RunError, match=r"no run under .*nothing; run mlrec train"):
        mlrec.runs(folder / "nothing")


def test_the_frames_of_report_and_compare_are_those_of_the_commands(folder: Path) -> None:
    frame = mlrec.report(root=folder / "runs")
    assert frame.columns[: len(HEAD)].tolist() == HEAD
    for row in frame.itertuples():
        assert mlrec.Metrics.load(folder / "runs" / row.run / "metrics.json").mAP == row.mAP
    made = mlrec.compare(folder / "runs/a", folder / "runs/b")
    tables = compare_runs([folder / "runs/a"], [folder / "runs/b"])
    for table, frame in zip(tables, made.values(), strict=True):
        expected = [[np.nan if cell is None else cell for cell in row.cells] for row in table.rows]
        pd.testing.assert_frame_equal(
            frame.reset_index(), pd.DataFrame(expected, columns=[c.key for c in table.columns]), check_dtype=False
        )
    by_label = mlrec.report([folder / "runs/a", folder / "runs/b"], by_label=True)
    of_a = mlrec.Metrics.load(folder / "runs/a/metrics.json").to_frame()
    assert sorted(by_label.index) == sorted(LABELS)
    assert by_label["ap0"].sort_index().tolist() == of_a["AP"].sort_index().tolist()
    assert by_label["recall0"].sort_index().tolist() == of_a["recall"].sort_index().tolist()


def test_runs_are_accepted_as_objects_and_missing_paths_are_named(folder: Path) -> None:
    a, b = (mlrec.load_run(folder / "runs" / name) for name in "ab")
    expected = mlrec.compare(a.path, b.path)["metrics"]
    pd.testing.assert_frame_equal(mlrec.compare(a, [b])["metrics"], expected)
    assert len(mlrec.report(a)) == 1
    with pytest.raises(PredictionsError, match="nothing: no such file or folder; pass a run folder or a score file"):
        mlrec.compare(a, folder / "nothing")


def test_a_label_with_one_positive_is_no_finding(tmp_path: Path) -> None:
    targets = np.zeros((200, 1), np.int8)
    targets[0] = 1
    good, poor = -np.arange(200.0)[:, None], -np.arange(200.0)[:, None]
    poor[0] = -100
    for name, logits in (("a", good), ("b", poor)):
        write_run(tmp_path, name, logits=logits, targets=targets, labels=("owl",))
    row = mlrec.compare(tmp_path / "a", tmp_path / "b")["labels"].loc["owl"]
    assert row["p"] < 0.05, "its resamples hardly differ"
    assert row["finding"] == "too few positives (1)"


def test_statistics_are_those_of_pandas(tmp_path: Path) -> None:
    targets = np.random.default_rng(1).integers(-1, 2, (40, 3)).astype(np.int8)
    images = tuple(f"{k}.jpg" for k in range(40))
    manifest = mlrec.Manifest("pets", "val", tmp_path, ("cat", "dog", "hen"), images, targets)
    (tmp_path / "pets").mkdir()
    dataset.write(tmp_path / "pets", dataset.Info("pets", {}, "mlrec", list(manifest.labels), {"val": 40}), [manifest])
    labels = mlrec.stats(tmp_path / "pets")["labels"]
    known = pd.DataFrame(targets, columns=manifest.labels).replace(-1, np.nan)
    assert labels["val_positives"].to_dict() == known.sum().to_dict()
    assert labels["val_unknown"].to_dict() == known.isna().sum().to_dict()
    assert labels["val_prevalence"].astype(float).to_dict() == pytest.approx(known.mean().to_dict())
    assert mlrec.stats(tmp_path / "pets")["splits"].loc["val", "samples"] == 40
    done = CliRunner().invoke(app, ["stats", str(tmp_path / "pets"), "--out", str(tmp_path / "s.xlsx")])
    assert done.exit_code == 0, done.output
    book = pd.read_excel(tmp_path / "s.xlsx", sheet_name=None)
    assert list(book) == ["splits", "labels"]
    assert book["labels"]["val_positives"].tolist() == labels["val_positives"].tolist()


@pytest.mark.parametrize("ending", ["csv", "xlsx", "parquet"])
def test_files_hold_the_numbers_of_the_frame(folder: Path, ending: str) -> None:
    expected = mlrec.report(root=folder / "runs")
    out = folder / f"r.{ending}"
    done = CliRunner().invoke(app, ["report", "--runs-root", str(folder / "runs"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    read = {"csv": pd.read_csv, "xlsx": pd.read_excel, "parquet": pd.read_parquet}[ending](out)
    assert read.columns.tolist() == expected.columns.tolist()
    for column in ("mAP", "CF1", "lam", "heads"):
        assert read[column].astype(float).tolist() == expected[column].astype(float).tolist(), "to the bit"
    assert read["run"].tolist() == ["a", "b"]
    both = CliRunner().invoke(
        app, ["compare", str(folder / "runs/a"), str(folder / "runs/b"), "--resamples", "100", "--out", str(out)]
    )
    assert both.exit_code == 0, both.output
    if ending == "parquet":
        joined = pd.read_parquet(out)
        assert joined.groupby("table", sort=False).size().to_dict() == {"metrics": 7, "labels": 4}
        assert joined.set_index("metric").loc["mAP", "a"] == mlrec.Metrics.load(folder / "runs/a/metrics.json").mAP


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_no_spreadsheet_computes_a_label(tmp_path: Path, ending: str) -> None:
    rows = (Row(("=1+1", -0.5), "=2+2"), Row(("a\x1bb", None)))
    tables = [
        Table("t", (Column("n", "n"), Column("=v", "v", "points")), rows, name=name)
        for name in ("A:B", "a?b", "x" * 40)
    ]
    write_tables(tables, tmp_path / f"t.{ending}")
    if ending == "csv":
        first = (tmp_path / "t.csv").read_text().split("\n\n")[0]
        assert first.splitlines()[:2] == ["group,n,'=v,marks", "'=2+2,'=1+1,-0.5,"]
        return
    book = openpyxl.load_workbook(tmp_path / "t.xlsx")
    assert len(book.sheetnames) == 3
    cells = [cell for sheet in book for row in sheet.rows for cell in row]
    assert not [cell for cell in cells if cell.data_type == "f"]
    assert [cell.value for cell in book["A B"][2]] == ["'=2+2", "'=1+1", -0.5, None]
    assert book["A B"]["B3"].value == r"a\x1bb"


@pytest.mark.parametrize(("ending", "package"), [("xlsx", "openpyxl"), ("parquet", "pyarrow")])
def test_a_missing_package_is_one_line_that_names_the_extra(
    folder: Path, ending: str, package: str, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("mlrec.utils.frame_files.find_spec", lambda name: None if name == package else object())
    out = folder / f"r.{ending}"
    done = CliRunner().invoke(app, ["report", "--runs-root", str(folder / "runs"), "--out", str(out)])
    assert isinstance(done.exception, UsageError)
    assert str(done.exception).endswith(f"requires {package}; run pip install 'mlrec[tables]'")
    assert not out.exists()
    text = CliRunner().invoke(app, ["report", "--runs-root", str(folder / "runs"), "--format", ending])
    assert "write to a file with --out NAME." in str(text.exception)
    with pytest.raises(MlrecError, match=r"unknown extension; expected \.csv, \.xlsx, \.parquet"):
        write_frames({}, folder / "r.txt")
