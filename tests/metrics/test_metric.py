"""`Metric` equals `evaluate` to the bit, whatever it is given and however the samples are spread."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from mlrec import Metric, Metrics, evaluate
from mlrec.metrics.conventions import CONVENTIONS
from mlrec.utils.errors import PredictionsError, UsageError
from tests.metrics.scoring_oracles import random_case

LABELS = ["cat", "dog", "hen", "owl"]
LOGITS, TARGETS = random_case(7, samples=43, labels=4)


def in_batches(metric: Metric, logits=LOGITS, targets=TARGETS, sizes=(10, 1, 0, 32)) -> Metric:
    start = 0
    for size in sizes:
        metric.update(logits[start : start + size], targets[start : start + size])
        start += size
    assert start == len(logits) == len(metric)
    return metric


@pytest.mark.parametrize("conventions", CONVENTIONS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_batches_give_the_metrics_of_all_samples_to_the_bit(conventions: str, dtype: str) -> None:
    logits = LOGITS.astype(dtype)
    expected = evaluate(logits, TARGETS, labels=LABELS, conventions=conventions, threshold=0.7)
    metric = in_batches(Metric(LABELS, conventions, threshold=0.7), logits)
    assert metric.compute() == expected
    assert metric.compute() == expected  # computing changes nothing
    metric.reset()
    assert in_batches(metric, logits[::-1], TARGETS[::-1]).compute() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_any_type_with_gradients_are_taken(dtype: torch.dtype) -> None:
    logits = torch.from_numpy(LOGITS).to(dtype).requires_grad_()
    exact = logits.detach().double().numpy()  # every type is contained in float64
    metric = Metric(LABELS)
    for rows in (slice(0, 20), slice(20, None)):
        metric.update(logits[rows] * 1, torch.from_numpy(TARGETS[rows]))
    assert metric.compute() == evaluate(exact, TARGETS, labels=LABELS)
    assert evaluate(logits, torch.from_numpy(TARGETS), labels=LABELS) == metric.compute()


def test_lists_frames_and_memory_that_is_reused() -> None:
    expected = evaluate(LOGITS, TARGETS, labels=LABELS)
    assert in_batches(Metric(LABELS), LOGITS.tolist(), TARGETS.tolist(), (20, 23)).compute() == expected
    frame, truth = pd.DataFrame(LOGITS, columns=LABELS), pd.DataFrame(TARGETS, columns=LABELS)
    metric = Metric()
    for rows in (slice(0, 20), slice(20, 43)):  # the rows of each batch are numbered from 0 again
        metric.update(
            frame[rows].reset_index(drop=True), truth[rows].reset_index(drop=True)[["owl", "dog", "cat", "hen"]]
        )
    assert metric.compute().average_precision == expected.average_precision
    assert len(metric) == 43
    memory, metric = np.empty((1, 4)), Metric(LABELS)
    for row in range(len(LOGITS)):
        memory[:] = LOGITS[row]
        metric.update(memory, TARGETS[row : row + 1])
    assert metric.compute() == expected


def test_merged_parts_with_copies_give_the_whole() -> None:
    parts = []
    for rank in range(3):  # as a distributed sampler deals 43 samples to 3 processes: the first two twice
        rows = [k % 43 for k in range(rank, 45, 3)]
        part = Metric(LABELS)
        part.update(LOGITS[rows], torch.from_numpy(TARGETS[rows]), ids=torch.tensor(rows))
        parts.append(pickle.loads(pickle.dumps(part)))  # as all_gather_object hands it over
    merged = Metric().merge(*parts, Metric())
    assert len(merged) == 43
    assert merged.compute() == evaluate(LOGITS, TARGETS, labels=LABELS)


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    metric = Metric(LABELS)
    with pytest.raises(PredictionsError, match="no samples were added; call update"):
        metric.compute()
    metric.update(LOGITS[:2], TARGETS[:2], ids=["a", "b"])
    unchanged = copy.deepcopy(metric)
    for scores, targets, ids, message in (
        (LOGITS[:1], TARGETS[:1], None, "ids were passed with some"),
        (LOGITS[:2], TARGETS[:2], ["c"], "1 id for 2 samples"),
        (LOGITS[:1], 1 - TARGETS[:1].clip(0), ["a"], "sample 'a' was already added with different targets"),
        (LOGITS[:1] * np.nan, TARGETS[:1], ["c"], "sample 'c', label 'cat'"),
        (LOGITS[:1, :2], TARGETS[:1, :2], ["c"], "4 label names for 2 logit columns"),
        (LOGITS[:1], TARGETS[:1] + 5, ["c"], "targets contain invalid values"),
    ):
        with pytest.raises(PredictionsError, match=message):
            metric.update(scores, targets, ids)
    assert metric.compute() == unchanged.compute()
    for other in (
        Metric(LABELS[::-1]),
        Metric(LABELS, "csra"),
        Metric(LABELS, scores="logits"),
        Metric(LABELS, threshold=1),
    ):
        other.update(LOGITS[2:3], TARGETS[2:3], ids=["c"])
        with pytest.raises(PredictionsError, match="two metrics have different settings"):
            metric.merge(other)
    unnamed = Metric()
    unnamed.update(LOGITS, TARGETS)
    with pytest.raises(PredictionsError, match="scores have 2 columns, but earlier batches had 4"):
        unnamed.update(LOGITS[:, :2], TARGETS[:, :2])


def test_probabilities_must_be_named_as_in_evaluate() -> None:
    probabilities = 1 / (1 + np.exp(-LOGITS))
    with pytest.raises(PredictionsError, match="pass scores="):
        in_batches(Metric(LABELS), probabilities).compute()
    named = in_batches(Metric(LABELS, scores="probabilities"), probabilities).compute()
    assert named == evaluate(probabilities, TARGETS, labels=LABELS, scores="probabilities")


def test_it_takes_little_memory() -> None:
    metric = Metric()
    for _ in range(4):
        metric.update(np.full((1000, 80), -1, np.float32), np.zeros((1000, 80), np.int8))
    metric.compute()
    assert len(pickle.dumps(metric)) < 1.01 * 4000 * 80 * 5


def test_no_torch_is_imported() -> None:
    code = "import sys, mlrec; m = mlrec.Metric(); m.update([[1.0], [-1.0]], [[1], [0]]); assert m.compute().mAP == 1; "
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("threshold", [0.0, 0.7, [0.1, -0.2, 0.3, 9.0]])
def test_rates_of_labels_agree_with_scikit_learn(threshold) -> None:
    targets = TARGETS.clip(0)
    targets[:, 3] = 0
    targets[5, 3] = 1
    frame = evaluate(LOGITS, targets, labels=LABELS, threshold=threshold).to_frame()
    decided = LOGITS >= np.asarray(threshold)
    precision, recall, f1, support = precision_recall_fscore_support(targets, decided, zero_division=0)
    np.testing.assert_allclose(frame["precision"], precision)
    np.testing.assert_allclose(frame["recall"], recall)
    np.testing.assert_allclose(frame["F1"], f1)
    assert frame["support"].tolist() == support.tolist()
    assert frame["predicted"].tolist() == decided.sum(axis=0).tolist()
    assert frame["threshold"].tolist() == np.broadcast_to(threshold, 4).tolist()
    assert frame.loc["owl", "support"] == 1
    assert frame.loc["owl", "few_positives"]


def test_means_of_the_labels_are_the_metrics_also_with_unknown_labels() -> None:
    targets = TARGETS.copy()
    targets[::3, 0] = -1
    targets[:, 1] = np.where(targets[:, 1] == 1, -1, targets[:, 1])  # no positive
    targets[:, 2] = -1  # nothing known
    for name in CONVENTIONS:
        metrics = evaluate(LOGITS, targets, labels=LABELS, conventions=name)
        frame = metrics.to_frame()
        assert frame["AP"].mean() == pytest.approx(metrics.mAP)
        assert frame["precision"].mean() == pytest.approx(metrics.CP)
        assert frame["recall"].mean() == pytest.approx(metrics.CR)
        if CONVENTIONS[name].class_f1 == "mean":
            assert frame["F1"].mean() == pytest.approx(metrics.CF1)
    for k, label in enumerate(LABELS):
        known = targets[:, k] >= 0
        of_label = evaluate(LOGITS, targets, labels=LABELS).per_label[label]
        assert [of_label.support, of_label.negatives, of_label.unknown] == [
            (targets[:, k] == value).sum() for value in (1, 0, -1)
        ]
        assert of_label.predicted == (LOGITS[known, k] >= 0).sum()


def test_flat_holds_floats_only() -> None:
    metrics = evaluate(LOGITS, np.where(TARGETS == 1, 0, TARGETS), labels=LABELS)
    flat = metrics.flat("val/", per_label=True)
    assert {type(value) for value in flat.values()} == {float}
    assert math.isnan(flat["val/mAP"])
    full = evaluate(LOGITS, TARGETS, labels=LABELS)
    assert full.flat()["top3/OF1"] == full.top3.OF1
    assert list(full.flat()) == ["mAP", "CP", "CR", "CF1", "OP", "OR", "OF1"] + [
        f"top3/{name}" for name in ("CP", "CR", "CF1", "OP", "OR", "OF1")
    ]
    assert full.flat(per_label=True)["AP/dog"] == full.average_precision["dog"]


def test_metrics_are_printed_as_a_small_table() -> None:
    metrics = evaluate(LOGITS, TARGETS, labels=["<b>", *LABELS[1:]])
    lines = str(metrics).splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) < 80
    assert lines[0].split() == ["mAP", "CP", "CR", "CF1", "OP", "OR", "OF1"]
    assert lines[1].split()[:2] == ["all", f"{100 * metrics.mAP:.1f}"]
    assert lines[4] == "4 labels have fewer than 30 positives; see to_frame() or per_label.csv"
    page = metrics._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert f"<td>{100 * metrics.OF1:.1f}</td>" in page


def test_an_infinite_threshold_and_earlier_files(tmp_path) -> None:
    metrics = evaluate(LOGITS, TARGETS, labels=LABELS, threshold=math.inf)
    metrics.save(tmp_path / "metrics.json")
    assert Metrics.load(tmp_path / "metrics.json") == metrics
    assert metrics.per_label["cat"].threshold is None
    content = (tmp_path / "metrics.json").read_text()
    start = content.index(',\n  "per_label"')
    (tmp_path / "metrics.json").write_text(content[:start] + "\n}\n")  # as earlier versions wrote it
    frame = Metrics.load(tmp_path / "metrics.json").to_frame()
    assert frame["AP"].tolist() == list(metrics.average_precision.values())
    assert frame.drop(columns="AP").isna().all(axis=None)
    assert "nan" not in str(Metrics.load(tmp_path / "metrics.json"))


def test_the_next_batch_may_be_written_into_the_same_memory() -> None:
    scores, targets = np.array([[2.0, -1.0]]), np.array([[1, 0]], dtype=np.int8)
    metric = Metric()
    metric.update(scores, targets)
    scores[:], targets[:] = [[-1.0, 2.0]], [[0, 1]]
    metric.update(scores, targets)
    assert metric.compute().OF1 == 1.0


def test_an_unknown_kind_of_scores_is_reported_before_the_first_batch() -> None:
    with pytest.raises(UsageError, match="scores must be 'logits' or 'probabilities', but got 'probs'"):
        Metric(scores="probs")  # type: ignore[arg-type]
