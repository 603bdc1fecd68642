"""`mlrec score`: truths of every kind, the real scores' published numbers, the command itself."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from mlrec import Manifest, evaluate
from mlrec.cli.app import app
from mlrec.datasets import dataset
from mlrec.metrics.evaluate import evaluate_scores
from mlrec.reports.render.terminal import render_text
from mlrec.reports.runs_table import scored_tables
from mlrec.utils.errors import DataError, MlrecError, UsageError
from mlrec.workflows.evaluate.score import score

PREDICTIONS = "filename,cat,dog\n1.jpg,0.9,0.2\n2.jpg,0.1,0.8\n3.jpg,0.7,0.6\n"
TRUTH = "filename,dog,cat\n3.jpg,0,1\n1.jpg,-1,1\n2.jpg,1,0\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "pred.csv").write_text(PREDICTIONS)
    (tmp_path / "truth.csv").write_text(TRUTH)
    targets = np.array([[1, -1], [0, 1], [1, 0]], dtype=np.int8)
    manifest = Manifest("pets", "test", tmp_path, ("cat", "dog"), ("1.jpg", "2.jpg", "3.jpg"), targets)
    (tmp_path / "pets").mkdir()
    info = dataset.Info("pets", {"kind": "csv"}, "paper", ["cat", "dog"], {"val": 2, "test": 3})
    dataset.write(tmp_path / "pets", info, [manifest.subset([0, 1], "val"), manifest])
    return tmp_path


@pytest.mark.parametrize("name", ["truth.npz", "truth.parquet", "truth.xlsx"])
def test_other_files_are_no_ground_truth(files: Path, name: str) -> None:
    (files / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=rf"{name}: expected a \.csv file, a manifest .*; save the table as CSV"):
        score(files / "pred.csv", files / name)


def test_one_label_as_text_is_reported(files: Path) -> None:
    with pytest.raises(MlrecError, match=r"labels are the text 'cat'; pass a list of names, for example \['cat'\]"):
        score(files / "pred.csv", files / "pets", split="test", labels="cat")


def test_every_kind_of_truth_gives_the_same(files: Path) -> None:
    by_csv = score(files / "pred.csv", files / "truth.csv")
    assert by_csv.counts == {"samples": 3, "labels": 2, "positives": 3, "unknown": 1, "undefined": 0}
    assert by_csv.OP == 0.75
    by_manifest = score(files / "pred.csv", files / "pets/test.jsonl")
    by_folder = score(files / "pred.csv", files / "pets", split="test")
    assert by_manifest == by_folder
    assert by_manifest.average_precision == {name: by_csv.average_precision[name] for name in ("cat", "dog")}
    assert (by_manifest.mAP, by_manifest.top3) == (by_csv.mAP, by_csv.top3)


def test_a_split_of_the_truth_is_selected(files: Path) -> None:
    with pytest.raises(UsageError, match=r"multiple splits \(val, test\); choose one with --split"):
        score(files / "pred.csv", files / "pets")
    with pytest.raises(DataError, match="no split 'train'"):
        score(files / "pred.csv", files / "pets", split="train")
    with pytest.raises(DataError, match="no split 'val'; choose one of test"):
        score(files / "pred.csv", files / "pets/test.jsonl", split="val")
    with pytest.raises(MlrecError, match=r"first: '3\.jpg'"):
        score(files / "pred.csv", files / "pets", split="val")
    with pytest.raises(UsageError, match="--split requires TRUTH"):
        score(files / "pred.csv", split="val")


def test_labels_restrict_both_sides(files: Path) -> None:
    (files / "more.csv").write_text(TRUTH.replace("filename,", "filename,age,").replace(".jpg,", ".jpg,37,"))
    for truth in ("truth.csv", "more.csv", "pets/test.jsonl"):
        assert list(score(files / "pred.csv", files / truth, labels=["dog"]).average_precision) == ["dog"]
    with pytest.raises(MlrecError, match=r"test\.jsonl: no label 'dgo'; did you mean 'dog'"):
        score(files / "pred.csv", files / "pets/test.jsonl", labels=["dgo"])


def test_the_real_scores_give_their_published_numbers(realdata: Path) -> None:
    expected = {
        "resnet18": (0.844564, 0.8803, 0.6834, 0.7695, 0.9084, 0.7148, 0.8000),
        "resnet50": (0.877404, 0.8825, 0.7562, 0.8144, 0.9025, 0.7806, 0.8372),
    }
    for model, (mAP, *rest) in expected.items():
        metrics = score(realdata / f"scores/{model}_predictions.csv", realdata / "scores/truth.csv")
        assert metrics.mAP == pytest.approx(mAP, abs=5e-7)
        told = [metrics.CP, metrics.CR, metrics.CF1, metrics.OP, metrics.OR, metrics.OF1]
        assert told == pytest.approx(rest, abs=5e-5)


def test_f1_at_five_of_real_scores_is_scikit_learns_micro_f1(realdata: Path) -> None:
    predictions, truth = realdata / "scores/resnet50_predictions.csv", realdata / "scores/truth.csv"
    metrics = score(predictions, truth, top=5)
    scores = pd.read_csv(predictions, index_col=0)
    targets = pd.read_csv(truth, index_col=0).loc[scores.index, scores.columns]
    highest = scores.rank(axis=1, ascending=False, method="first") <= 5
    assert metrics.top[5].F1 == pytest.approx(f1_score(targets == 1, highest, average="micro"))
    shown = render_text(scored_tables(metrics, title="pred.csv"))
    assert "Top-5 ┄" in shown
    assert "F1@5: the 5 highest labels whatever their scores" in shown


def test_shown_with_conventions_in_words_and_undefined_labels_by_name() -> None:
    metrics = evaluate_scores([[0.9, 0.1], [0.2, 0.3]], [[1, 0], [0, 0]], threshold=0.5, labels=["cat", "dog"])
    shown = render_text(scored_tables(metrics, title="pred.csv", top3=True))
    assert "100.0" in shown
    assert "Top-3" in shown
    assert "AP is undefined for labels without a known positive or without a known negative (1 of 2): dog" in shown
    assert "conventions mlrec: AP without interpolation; tied scores share one step; unknown ignored" in shown
    assert "Top-3 ┄" not in render_text(scored_tables(metrics, title="pred.csv"))


def test_without_a_known_label_all_metrics_are_undefined() -> None:
    tables = scored_tables(evaluate([[1.0, -1.0]], [[-1, -1]]), title="pred.csv", top3=True)
    assert set(tables[0].rows[0].cells) == {None}
    assert "all labels of all samples are unknown, so there is nothing to score" in render_text(tables)


@pytest.mark.parametrize("name", ["pred.csv", "truth.csv", "pred.npz"])
def test_a_damaged_file_is_scored_or_refused_in_one_line(files: Path, name: str) -> None:
    arrays = {"logits": np.ones((3, 2)), "sample_ids": ["1.jpg", "2.jpg", "3.jpg"], "labels": ["cat", "dog"]}
    np.savez_compressed(files / "pred.npz", **arrays)
    good = (files / name).read_bytes()
    dice = random.Random(name)
    refused: list[str] = []
    for _ in range(100):
        damaged = bytearray(good)
        place = dice.randrange(len(good))
        end = place + dice.randrange(1, 20)
        match dice.randrange(4):
            case 0:
                del damaged[place:]
            case 1:
                damaged[place] ^= 1 << dice.randrange(8)
            case 2:
                del damaged[place:end]
            case _:
                damaged[place:place] = good[place:end]
        (files / name).write_bytes(damaged)
        try:
            score(files / ("pred.npz" if name == "pred.npz" else "pred.csv"), files / "truth.csv")
        except MlrecError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in message for message in refused)


def test_the_command_needs_neither_torch_nor_pandas(files: Path) -> None:
    code = (
        "import sys; from mlrec.cli.app import main\n"
        "sys.argv = ['mlrec', 'score', 'pred.csv', 'truth.csv', '--probabilities', '--json']\n"
        "try: main()\n"
        "finally: print(*[m for m in ('torch', 'pandas', 'timm', 'matplotlib') if m in sys.modules], file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=files, capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert json.loads(done.stdout) == score(files / "pred.csv", files / "truth.csv").to_dict()


def run_score(files: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlrec", "score", "pred.csv", "truth.csv", *flags]
    return subprocess.run(command, cwd=files, capture_output=True, text=True, check=False)


def test_the_kind_of_scores_is_set_or_its_inference_is_reported(files: Path) -> None:
    silent = run_score(files, "--probabilities")
    assert (silent.returncode, silent.stderr) == (0, "")
    decided = run_score(files)
    assert decided.stdout == silent.stdout
    assert decided.stderr.startswith("pred.csv: all scores are in [0, 1] and are treated as probabilities")
    assert "scores are probabilities, threshold: p >= 0.5" in decided.stdout
    logits = run_score(files, "--logits")
    assert "scores are logits, threshold: p >= 0.5" in logits.stdout
    assert logits.stderr == ""
    both = run_score(files, "--logits", "--probabilities")
    assert (both.returncode, both.stdout) == (2, "")
    (files / "pred.csv").write_text("filename,cat,dog\n1.jpg,90,20\n2.jpg,10,80\n3.jpg,70,60\n")
    percent = run_score(files)
    assert (percent.returncode, percent.stdout) == (1, "")
    assert percent.stderr.startswith(
        "error: pred.csv: scores range from 10 to 90, but probabilities range from 0 to 1; divide percentages"
    )


def test_labels_without_ap_are_named_with_the_reason(files: Path) -> None:
    (files / "truth.csv").write_text("filename,dog,cat\n3.jpg,-1,1\n1.jpg,-1,1\n2.jpg,-1,1\n")
    done = run_score(files, "--probabilities")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "warning: no AP for 1 of 2 labels (unknown in every sample): dog",
        "warning: no AP for 1 of 2 labels (no known negative; precision is 1 wherever these labels are predicted): cat",
    ]
    assert "¶ 1 label without a known negative" in done.stdout


def test_a_fault_ends_the_command_with_one_line(files: Path) -> None:
    (files / "pred.csv").write_text(PREDICTIONS + "1.jpg,0.9,0.2\n")
    done = subprocess.run(
        [sys.executable, "-m", "mlrec", "score", "pred.csv", "truth.csv"],
        cwd=files, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: pred.csv: '1.jpg' is scored twice, on lines 2 and 5; keep only one of them\n"


def test_of_many_labels_those_with_the_lowest_and_highest_ap_are_shown() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 25)) < 0.3).astype(np.int8)
    targets[:, 3] = 0  # no AP
    metrics = evaluate(targets + rng.normal(size=targets.shape), targets, labels=[f"l{k}" for k in range(25)])
    _, table = scored_tables(metrics, title="t", all_labels=False)
    known = {label: value for label, value in metrics.average_precision.items() if value is not None}
    ordered = sorted(known, key=lambda label: known[label])
    groups = {title: [row.cells[0] for row in rows] for title, rows in table.groups()}
    assert groups == {"lowest": ordered[:5], "highest": ordered[-5:]}
    assert table.title == (
        "By label: 5 lowest and 5 highest AP of 24 labels, many of them with fewer than 30 positives"
    )
    assert table.footnotes[0] == "use --full to show all 25 labels"
    assert any("AP is undefined" in note and note.endswith("(1 of 25): l3") for note in table.footnotes)
    assert len(scored_tables(metrics, title="t")[1].rows) == 25
    few = evaluate(targets[:, :20] * 2.0 - 1.0, targets[:, :20])
    assert len(scored_tables(few, title="t", all_labels=False)[1].rows) == 20


def test_a_label_with_one_positive_is_neither_the_best_nor_the_worst() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((200, 25)) < 0.4).astype(np.int8)
    targets[:, :2] = 0
    targets[0, :2] = 1
    scores = targets + rng.normal(size=targets.shape)
    scores[0, :2] = (100, -100)
    metrics = evaluate(scores, targets)
    assert metrics.average_precision["0"] == max(metrics.average_precision.values())
    assert metrics.average_precision["1"] == min(metrics.average_precision.values())
    short = scored_tables(metrics, title="t", all_labels=False)[1]
    assert {"0", "1"}.isdisjoint(row.cells[0] for row in short.rows)
    assert short.title == "By label: 5 lowest and 5 highest AP of the 23 labels with at least 30 positives"
    whole = scored_tables(metrics, title="t")[1]
    assert [row.cells[0] for row in whole.rows[-2:]] == ["0", "1"]
    assert [title for title, _ in whole.groups()][1].startswith("fewer than 30 positives")
    assert [row.cells[-1] for row in whole.rows[-2:]] == [1, 1]


def test_the_command_prints_all_of_many_labels_with_full_only(tmp_path: Path) -> None:
    names = [f"l{k}" for k in range(30)]
    rng = np.random.default_rng(0)
    for name, rows in (("p", rng.random((40, 30)).round(3)), ("t", rng.integers(0, 2, (40, 30)))):
        lines = [",".join(["filename", *names]), *(f"{k}.jpg," + ",".join(map(str, row)) for k, row in enumerate(rows))]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines), encoding="utf-8")
    words = ["score", str(tmp_path / "p.csv"), str(tmp_path / "t.csv"), "--probabilities"]
    short, full = (CliRunner().invoke(app, [*words, *more]).stdout for more in ([], ["--full"]))
    assert "5 highest AP of 30 labels" in " ".join(short.split())
    assert sum(line.split()[:1] == [name] for name in names for line in short.splitlines()) == 10
    assert sum(line.split()[:1] == [name] for name in names for line in full.splitlines()) == 30
