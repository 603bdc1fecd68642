"""Head, medium and tail labels in `mlrec compare`: groups with paired intervals, positives in training by label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlrec.datasets import dataset
from mlrec.datasets.dataset import Info
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.bootstrap import Bootstrap
from mlrec.metrics.evaluate import evaluate
from mlrec.metrics.intervals import bias_corrected
from mlrec.reports.render.formats import FORMATS
from mlrec.run_folders.record import SplitRecord
from mlrec.workflows.report.compare import compare_runs
from mlrec.workflows.report.frames import compare, report
from mlrec.workflows.report.report import label_report
from tests.reports.builders import write_run

LABELS = ("often", "also often", "medium", "rare", "rarest")
TRAINED = (101, 150, 100, 19, 3)  # positives in training
RNG = np.random.default_rng(3)
TARGETS = (RNG.random((120, 5)) < 0.3).astype(np.int8)
NOISE = RNG.normal(size=TARGETS.shape)
GOOD, POOR = (2.5 * TARGETS + NOISE).astype(np.float32), (0.5 * TARGETS + NOISE).astype(np.float32)


def prepared(root: Path) -> tuple[Path, SplitRecord]:
    """A dataset whose training split has the positives of `TRAINED`, its labels in another order."""
    order = [3, 0, 4, 2, 1]
    targets = np.zeros((200, 5), np.int8)
    for column, label in enumerate(order):
        targets[: TRAINED[label], column] = 1
    names = tuple(LABELS[label] for label in order)
    manifest = Manifest("toy", "train", root, names, tuple(f"{k}.jpg" for k in range(200)), targets)
    path = root / "data" / "toy"
    path.mkdir(parents=True)
    dataset.write(path, Info("toy", {"kind": "csv"}, "paper", list(names), {"train": 200}), [manifest])
    digest = dataset.Dataset.load(path).manifest("train").digest
    return path, SplitRecord("toy", "csv", "train", 200, digest, str(path))


def runs(root: Path, **train: Any) -> list[Path]:
    return [
        write_run(root, name, logits=logits, targets=TARGETS, labels=LABELS, config={"lam": lam}, **train)
        for name, logits, lam in (("a", GOOD, 0.1), ("b", POOR, 0.2))
    ]


def columns_of(table: Any) -> dict[str, list[Any]]:
    return {column.key: [row.cells[k] for row in table.rows] for k, column in enumerate(table.columns)}


def test_groups_have_the_paired_interval_of_the_difference_of_their_means(tmp_path: Path) -> None:
    _, split = prepared(tmp_path)
    a, b = runs(tmp_path, train=split)
    metrics, groups, labels = compare_runs([a], [b])
    shown = columns_of(groups)
    assert list(zip(shown["frequency"], shown["labels"], strict=True)) == [("head", 2), ("medium", 1), ("tail", 2)]
    bootstrap = Bootstrap(TARGETS, groups=[f"{k:06d}.jpg" for k in range(120)])
    drawn = bootstrap.resample(GOOD).average_precision - bootstrap.resample(POOR).average_precision
    for row, columns in enumerate(([0, 1], [2], [3, 4])):
        means = []
        for logits in (GOOD, POOR):
            precision = list(evaluate(logits, TARGETS, scores="logits").average_precision.values())
            means.append(np.mean([precision[column] for column in columns]))
        assert [shown["a"][row], shown["b"][row]] == pytest.approx(means)
        assert shown["difference"][row] == pytest.approx(means[0] - means[1])
        ends = bias_corrected(means[0] - means[1], drawn[:, columns].mean(axis=1))
        assert (shown["low"][row], shown["high"][row]) == pytest.approx(ends)
    assert set(shown["finding"]) == {"A higher"}
    by_label = columns_of(labels)
    assert by_label["training_positives"] == list(TRAINED)
    assert by_label["frequency"] == ["head", "head", "medium", "tail", "tail"]
    assert metrics.name == "metrics"
    assert set(compare(a, b)) == {"metrics", "frequency", "labels"}
    assert all("tail" in text([groups]) for text in FORMATS.values())


def test_the_mean_over_all_labels_is_map() -> None:
    estimate = Bootstrap(TARGETS).estimate([GOOD, POOR])
    ours, mAP = estimate.labels_mean(range(5)), estimate.metric("mAP")
    assert (ours.value, ours.low, ours.high) == pytest.approx((mAP.value, mAP.low, mAP.high))


def test_by_label_has_groups_and_positives_in_training(tmp_path: Path) -> None:
    _, split = prepared(tmp_path)
    runs(tmp_path / "runs", train=split)
    labels, groups = label_report(root=tmp_path / "runs")
    assert columns_of(labels)["training_positives"] == list(TRAINED)
    shown = columns_of(groups)
    assert shown["frequency"] == ["head", "medium", "tail"]
    of_labels = columns_of(labels)
    for k in range(2):
        precision = of_labels[f"ap{k}"]
        assert shown[f"ap{k}"] == pytest.approx([np.mean(precision[:2]), precision[2], np.mean(precision[3:])])
    frame = report(tmp_path / "runs", by_label=True)
    assert sorted(frame.index) == sorted(LABELS)
    assert frame["training_positives"].to_dict() == dict(zip(LABELS, TRAINED, strict=True))
    (some, *_) = label_report(root=tmp_path / "runs", labels=["rare"])
    assert columns_of(some)["frequency"] == ["tail"]


def test_without_a_common_training_split_nothing_is_said_about_frequency(tmp_path: Path) -> None:
    path, split = prepared(tmp_path)
    a, b = runs(tmp_path / "elsewhere", train=SplitRecord("toy", "csv", "train", 200, split.digest, "/missing"))
    assert [table.name for table in compare_runs([a], [b])] == ["metrics", "labels"]
    assert len(label_report([a, b])) == 1
    (tmp_path / "no dataset").mkdir()
    gone = SplitRecord("toy", "csv", "train", 200, split.digest, str(tmp_path / "no dataset"))
    assert len(label_report([runs(tmp_path / "gone", train=gone)[0]])) == 1
    (other,) = runs(tmp_path / "other", train=SplitRecord("toy", "csv", "train", 200, "changed", str(path)))[:1]
    assert [table.name for table in compare_runs([other], [b])] == ["metrics", "labels"]
