"""Every command that reads files of scores takes their kind: `--logits` or `--probabilities`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets.dataset import Dataset
from mlrec.metrics.scores import INSIDE, read_scores
from mlrec.utils.errors import MlrecError, ValidationReport
from mlrec.workflows.deploy.predict_rows import csv_header, csv_row
from tests.tiny import make_tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("scores"))


@pytest.fixture(scope="module")
def scores(data: Path) -> Path:
    """A CSV of logits without a negative one: by their values they would be refused as percentages."""
    manifest = Dataset.load(data).manifest("val")
    values = np.random.default_rng(0).random(manifest.targets.shape) * 4 + (manifest.targets == 1)
    path = data.parent / "scores.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [("id", *manifest.labels), *((name, *row) for name, row in zip(manifest.sample_ids, values, strict=True))]
        )
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output, and standard error with the error that the command raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    error = result.exception
    if isinstance(error, MlrecError):
        return error.exit_code, result.stdout, f"{result.stderr}{error}"
    return result.exit_code, result.stdout, result.stderr


def commands(data: Path, scores: Path) -> list[list[object]]:
    return [
        ["score", scores, data, "--split", "val"],
        ["stats", data, "--predictions", scores],
        ["label-errors", "--data", data, "--split", "val", "--predictions", scores, "--out", data.parent / "review"],
        ["report", "--compare", scores, scores.with_name("other.csv"), "--truth", data, "--split", "val"],
    ]


@pytest.mark.parametrize("number", range(4))
def test_the_flag_that_the_error_names_is_one_of_this_command(data: Path, scores: Path, number: int) -> None:
    scores.with_name("other.csv").write_text(scores.read_text())
    command = commands(data, scores)[number]
    code, _, refused = run(*command)
    assert code == 1
    assert "divide percentages by 100" in refused
    assert "--logits" in refused
    code, out, refused = run(*command, "--logits")
    assert out, refused
    assert "treated as" not in refused
    code, _, refused = run(*command, "--probabilities")
    assert code == 1
    assert "is not a probability" in refused
    code, _, refused = run(*command, "--probabilities", "--logits")
    assert code == 2
    assert "cannot be used with" in refused


def test_a_kind_without_scores_is_refused(data: Path) -> None:
    for command in (["stats", data], ["label-errors", "--data", data], ["report"]):
        code, _, refused = run(*command, "--logits")
        assert (code, "--logits" in refused) == (2, True), refused


def test_stored_percentages_are_a_warning(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", logits=np.array([[50.0, 99.0]]), sample_ids=["1"], labels=["cat", "dog"])
    findings = ValidationReport()
    read_scores(tmp_path / "p.npz", findings)
    assert findings.warnings == [f"{INSIDE}: {tmp_path / 'p.npz'}"]


@pytest.mark.parametrize("name", ["labels", "id"])
def test_a_label_may_have_the_name_of_a_column_of_predict(tmp_path: Path, name: str) -> None:
    labels, targets = ("cat", name), np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    values = np.array([[0.9, 0.8], [0.2, 0.6], [0.7, 0.1], [0.4, 0.3]])
    rows = [csv_row(f"{k}.jpg", ["cat"], dict(zip(labels, row, strict=True))) for k, row in enumerate(values)]
    (tmp_path / "p.csv").write_text("\n".join([csv_header(labels), *rows]) + "\n")
    truth = "\n".join(f"{k}.jpg,{a},{b}" for k, (a, b) in enumerate(targets))
    (tmp_path / "t.csv").write_text(f"filename,cat,{name}\n{truth}\n")
    options = ["--labels", f"cat,{name}"]  # the truth has it as a label, whatever its name looks like
    code, out, refused = run("score", tmp_path / "p.csv", tmp_path / "t.csv", "--json", *options)
    assert code == 0, refused
    wanted = [average_precision_score(targets[:, k], values[:, k]) for k in range(2)]
    assert list(json.loads(out)["average_precision"].values()) == pytest.approx(wanted)
