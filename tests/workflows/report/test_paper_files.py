"""`mlrec report` with LaTeX: files, streams, and flags that would have no effect."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.utils.errors import UsageError
from tests.reports.builders import write_run


def report(*words: str) -> str:
    done = CliRunner().invoke(app, ["report", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_one_command_writes_all_tables_and_figure_5_as_a_document(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "mine", config={"heads": 2, "lam": 0.3}, kind="csv", dataset="my_data")
    write_run(tmp_path / "runs", "mine2", config={"heads": 2, "lam": 0.5}, kind="csv", dataset="my_data")
    report("--runs-root", str(tmp_path / "runs"), "--paper", "--out", str(tmp_path / "paper.tex"))
    text = (tmp_path / "paper.tex").read_text(encoding="utf-8")
    labels = ["lambda", "voc2007", "voc2012", "coco", "wider", "pooling", "heads", "normalization"]
    assert [text.count(rf"\label{{tab:{label}}}") for label in labels] == [1] * 8
    assert text.count(r"\label{fig:lambda}") == 1
    assert r"\bibliography{paper}" in text
    assert "(0.3," in text
    assert r"Own runs on my\_data" in text
    assert "@inproceedings{zhu2021csra," in (tmp_path / "paper.bib").read_text(encoding="utf-8")


def test_without_runs_the_tables_are_those_of_the_paper(tmp_path: Path) -> None:
    root = ["--runs-root", str(tmp_path / "none"), "--paper"]
    assert "Own runs" not in report(*root)
    tables = json.loads(report(*root, "--json"))
    assert [table["title"].partition(":")[0] for table in tables] == [f"Table {k}" for k in range(1, 9)]
    assert r"\documentclass" not in report(*root, "--format", "latex"), "parts to paste"


def test_a_table_to_paste_is_no_document(tmp_path: Path) -> None:
    words = ["--runs-root", str(tmp_path / "none"), "--table", "7", "--layout", "paper"]
    report(*words, "--out", str(tmp_path / "t.tex"))
    assert r"\documentclass" not in (tmp_path / "t.tex").read_text(encoding="utf-8")
    assert (tmp_path / "t.bib").is_file()
    one = report(*words[:-2], "--table", "4", "--layout", "paper", "--format", "latex", "--columns", "1")
    assert "table*" not in one


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex, so nothing was compiled")
def test_a_pdf_leaves_no_other_file(tmp_path: Path) -> None:
    report("--runs-root", str(tmp_path / "none"), "--table", "7", "--out", str(tmp_path / "t.pdf"))
    assert [path.name for path in tmp_path.iterdir()] == ["t.pdf"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--layout", "paper"], "--layout requires --table"),
        (["--table", "2", "--layout", "wide"], "--layout wide: unknown layout; use full or paper"),
        (["--table", "2", "--layout", "paper", "--intervals"], "--intervals cannot be used with --layout paper"),
        (["--table", "2", "--notes"], "--notes requires --format latex or --format pdf"),
        (["--table", "2", "--columns", "1", "--format", "md"], "--columns requires --format latex or --format pdf"),
        (["--paper", "--table", "2"], "--table and --paper cannot be used together"),
        (["--paper", "--extra-rows", "r.csv"], "--extra-rows cannot be used with --paper"),
        (["--paper", "--labels", "cat"], "--labels cannot be used with --paper"),
        (["--paper", "--plots", "p"], "--plots cannot be used with --paper"),
        (["--table", "2", "--format", "pdf"], "--format pdf requires an output file; add --out FILE.pdf"),
    ],
)
def test_flags_without_an_effect_are_refused(tmp_path: Path, words: list[str], why: str) -> None:
    done = CliRunner().invoke(app, ["report", *words, "--runs-root", str(tmp_path / "none")])
    assert (type(done.exception), done.stdout) == (UsageError, "")
    assert why in str(done.exception)
