"""`mlrec report` from run folders to text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.metrics.evaluate import evaluate
from mlrec.reports.render.formats import FORMATS, SUFFIXES, format_of
from mlrec.utils.errors import RunError, UsageError
from mlrec.workflows.report.report import label_report, report, runs_at
from tests.reports.builders import LABELS, write_run

REPOSITORY = Path(__file__).parents[3]


def cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return command("report", *arguments, cwd=cwd)


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "mlrec", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip


def test_only_finished_runs_are_reported(tmp_path):
    write_run(tmp_path / "runs", "done")
    write_run(tmp_path / "runs" / "study", "deep", config={"lam": 0.3})
    write_run(tmp_path / "runs", "stopped", status="interrupted")
    table = report(root=tmp_path / "runs").table
    assert [row.cells[-1] for row in table.rows] == ["done", "deep"]


def test_runs_are_named_one_by_one_or_by_folder_and_counted_once(tmp_path):
    one = write_run(tmp_path / "runs", "one")
    write_run(tmp_path / "runs", "two")
    assert [run.path.name for run in runs_at([one])] == ["one"]
    assert len(runs_at([one, tmp_path / "runs"])) == 2


def test_missing_and_unfinished_runs_are_errors(tmp_path):
    with pytest.raises(RunError, match=r"no finished run .*; run mlrec train"):
        report(root=tmp_path / "runs")
    stopped = write_run(tmp_path, "stopped", status="interrupted")
    with pytest.raises(RunError, match=r"stopped: the run is not finished \(status: interrupted\); resume the run"):
        report([stopped])


def test_every_format_of_the_same_runs(tmp_path):
    write_run(tmp_path / "runs", "done")
    tables = [report(root=tmp_path / "runs").table]
    assert set(FORMATS) == {"table", "md", "latex", "csv", "json"}
    for name, draw in FORMATS.items():
        assert "ResNet" in draw(tables), name


def test_tables_score_again_and_conflicting_options_are_refused(tmp_path):
    write_run(tmp_path / "runs", "coco", kind="coco", dataset="coco2014", conventions="mlrec")
    four = report(root=tmp_path / "runs", table=4)
    assert four.rows[0].conventions == "csra"
    assert any("not comparable with MS-COCO 2014 (4 of 40,137 samples" in row.group for row in four.table.rows)
    assert report(root=tmp_path / "nothing", table=2).rows == []
    with pytest.raises(RunError, match="no CSRA runs that differ only in λ"):
        report(root=tmp_path / "runs", figure=5)
    for options in ({"table": 9}, {"figure": 4}, {"extra": tmp_path}, {"table": 4, "conventions": "csra"}):
        with pytest.raises(UsageError):
            report(root=tmp_path / "runs", **options)


def test_intervals_contain_the_value_and_resample_seeds(tmp_path):
    rng = np.random.default_rng(0)
    targets = (rng.random((80, 4)) < 0.4).astype(np.int8)
    for k in range(3):
        noise = rng.normal(size=targets.shape)
        write_run(tmp_path / "runs", f"s{k}", config={"seed": k}, logits=targets + noise, targets=targets)
    one = report(root=tmp_path / "runs", intervals=True)
    keys = [column.key for column in one.table.columns]
    low, value, high = (one.table.rows[0].cells[keys.index(key)] for key in ("mAP_low", "mAP", "mAP_high"))
    assert low < value < high
    assert len(report(root=tmp_path / "runs", each=True).table.rows) == 3


def test_every_label_with_its_interval_and_few_positives_flagged(tmp_path):
    rng = np.random.default_rng(0)
    targets = (rng.random((90, 4)) < [0.1, 0.5, 0.6, 0.7]).astype(np.int8)
    for k in range(2):
        write_run(
            tmp_path / "runs", f"s{k}", config={"seed": k}, logits=targets + rng.normal(size=(90, 4)), targets=targets
        )
    (plain,) = label_report(root=tmp_path / "runs")
    (bounded,) = label_report(root=tmp_path / "runs", intervals=True)
    assert [column.key for column in plain.columns] == ["label", "positives", "ap0", "precision0", "recall0", "F10"]
    assert [column.key for column in bounded.columns][:5] == ["label", "positives", "ap0", "ap0_low", "ap0_high"]
    assert [row.cells[2] for row in bounded.rows] == [row.cells[2] for row in plain.rows]
    assert [row.cells[0] for row in plain.rows] == ["cat", "bus", "car", "dog"]  # the one with few positives is last
    assert [row.group != "" for row in plain.rows] == [False, False, False, True]
    for row in bounded.rows:
        c = LABELS.index(row.cells[0])
        decided = [run.predictions().logits[:, c] >= 0 for run in runs_at([tmp_path])]
        rates = [precision_recall_fscore_support(targets[:, c], one, average="binary")[:3] for one in decided]
        assert row.cells[5:] == pytest.approx(np.mean(rates, axis=0))
        assert row.cells[1] == targets[:, c].sum()
        each = [evaluate(run.predictions().logits, targets).average_precision[str(c)] for run in runs_at([tmp_path])]
        assert row.cells[2] == pytest.approx(np.mean(each))
        assert 0 <= row.cells[3] < row.cells[2] < row.cells[4] <= 1
        assert bool(row.marks) == (row.cells[1] < 30) == (c == 0)
    assert "fewer than 30 positives" in bounded.footnotes[-1]


def test_flags_that_would_be_ignored_are_refused(tmp_path):
    for wrong, why in (
        (["report", "--table", "6", "--figure", "5"], "--table and --figure cannot be used together"),
        (["report", "--literature", "voc2007", "--plots", "p"], "--plots cannot be used with --literature"),
        (["report", "--study", "s", "--per-run"], "--per-run cannot be used with --study"),
        (["report", "--json", "--format", "csv"], "--json cannot be used with --format csv"),
        (["compare", "--by-size", "--by-label"], "--by-size cannot be used with --by-label"),
        (["compare", "--by-size", "--intervals"], "--intervals cannot be used with --by-size"),
        (["compare", "--by-label", "--truth", "t.csv"], "--truth cannot be used with --by-label"),
        (["compare", "a"], "expected two arguments, A and B (each a run or a score file), but got 1 argument;"),
        (["compare", "a", "b", "c"], "A and B (each a run or a score file), but got 3 arguments;"),
    ):
        done = command(*wrong, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert why in done.stderr


def test_the_command_prints_only_json_on_stdout_and_does_not_import_torch(tmp_path):
    write_run(tmp_path / "runs", "done")
    done = cli("--format", "json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["rows"][0]["run"] == "done"
    assert cli("--out", "t.tex", cwd=tmp_path).returncode == 0
    assert r"\toprule" in (tmp_path / "t.tex").read_text()
    wrong = cli("--format", "docx", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "choose one of table, md, latex, csv, json" in wrong.stderr


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            ["--out", "r.doc"],
            "--out r.doc: unknown extension; expected .txt, .md, .tex, .json, .html, .pdf, .csv, .xlsx, .parquet",
        ),
        (["--out", "r"], "--out r: unknown extension"),
        (["--out", "r.doc", "--format", "table"], "--out r.doc: unknown extension"),
        (["--out", "r.json", "--format", "csv"], "--format csv --out r.json: the file extension selects json"),
    ],
)
def test_a_file_ending_that_contradicts_the_format_is_refused(tmp_path, options, why):
    write_run(tmp_path / "runs", "done")
    done = CliRunner().invoke(app, ["report", *options, "--runs-root", str(tmp_path / "runs")])
    assert (type(done.exception), done.stdout) == (UsageError, "")
    assert why in str(done.exception)
    assert not Path(options[1]).exists()


@pytest.mark.parametrize("ending", SUFFIXES)
def test_each_ending_is_written_in_its_format(tmp_path, ending):
    assert format_of(None, Path(f"r{ending}")) == format_of(None, Path(f"r{ending.upper()}")) == SUFFIXES[ending]
    assert format_of(SUFFIXES[ending], Path("/dev/stdout")) == SUFFIXES[ending]


@pytest.mark.parametrize(
    "words",
    [["stats", "{data}", "--figure", "p.txt"], ["duplicates", "{data}", "--contact-sheet", "p.pdf"]],
)
def test_figures_of_unknown_endings_are_refused_before_the_work(tmp_path, words):
    done = CliRunner().invoke(app, [part.format(data=tmp_path / "none") for part in words])
    assert type(done.exception) is UsageError
    assert "unknown extension; expected .png" in str(done.exception)


def test_a_hundred_runs_take_less_than_a_second_without_torch(tmp_path):
    for k in range(100):
        write_run(tmp_path / "runs", f"r{k:03d}", config={"lam": k / 100})
    code = (
        "import sys, time, pathlib; t = time.process_time()\n"
        "from mlrec.workflows.report.report import report\nfrom mlrec.reports.render.formats import FORMATS\n"
        "FORMATS['table']([report(root=pathlib.Path('runs')).table])\n"
        "print(time.process_time() - t); print('torch' in sys.modules, 'pandas' in sys.modules)"
    )
    best = min(_timed(code, tmp_path) for _ in range(2))
    assert best < 1.0


def _timed(code: str, cwd: Path) -> float:
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120, check=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    seconds, modules = done.stdout.splitlines()
    assert modules == "False False"
    return float(seconds)
