"""mAP of frequent, medium and rare labels."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from mlrec.datasets.manifest import Manifest
from mlrec.metrics.evaluate import Metrics
from mlrec.metrics.frequency import FrequencyGroup, by_frequency
from mlrec.predictions import Predictions
from mlrec.reports.runs_table import scored_tables
from mlrec.run_folders.scores import metrics_of


def test_groups_against_a_loop_over_labels() -> None:
    rng = np.random.default_rng(0)
    positives = {f"label{k}": int(n) for k, n in enumerate([*rng.integers(0, 300, 200), 19, 20, 100, 101])}
    precision = {label: float(rng.random()) if rng.random() < 0.9 else None for label in positives}
    expected = defaultdict(list)
    for label, n in positives.items():
        group = "medium"
        if n < 20:
            group = "tail"
        elif n > 100:
            group = "head"
        expected[group].append(precision[label])
    found = by_frequency(precision, positives)
    assert list(found) == ["head", "medium", "tail"]
    for name, values in expected.items():
        assert found[name].labels == len(values)
        assert found[name].mAP == pytest.approx(np.mean([value for value in values if value is not None]))
    assert by_frequency({"a": None}, {"a": 0}) == {"tail": FrequencyGroup(1, None)}


def test_scores_of_a_run_have_the_groups_of_its_training_split(tmp_path: Path) -> None:
    labels = ("often", "seldom")
    targets = np.zeros((150, 2), np.int8)
    targets[:120, 0] = targets[:3, 1] = 1
    train = Manifest("m", "train", Path("/"), labels, tuple(f"{k}.jpg" for k in range(150)), targets)
    predictions = Predictions(
        labels, ("a", "b"), np.array([[1.0, -1.0], [-1.0, 2.0]]), np.array([[1, 0], [0, 1]], np.int8)
    )
    metrics = metrics_of(predictions, trained_on=train)
    assert metrics.by_frequency == {"head": FrequencyGroup(1, 1.0), "tail": FrequencyGroup(1, 1.0)}
    metrics.save(tmp_path / "metrics.json")
    assert Metrics.load(tmp_path / "metrics.json") == metrics
    assert [table.name for table in scored_tables(metrics, title="t")] == ["metrics", "frequency", "labels"]
    shown = scored_tables(metrics, title="t", training={"often": 120, "seldom": 3})[-1]
    assert [row.cells[-2:] for row in shown.rows] == [(120, "head"), (3, "tail")]
    assert "training_positives" not in [column.key for column in scored_tables(metrics, title="t")[-1].columns]
    assert metrics_of(predictions).by_frequency == {}
    reordered = Manifest("m", "train", Path("/"), labels[::-1], train.images, targets[:, ::-1].copy())
    assert metrics_of(predictions, trained_on=reordered).by_frequency == metrics.by_frequency
