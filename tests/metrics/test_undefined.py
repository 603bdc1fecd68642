"""Labels without a known negative, without a positive, or unknown everywhere: left out, counted and named."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score

from mlrec import evaluate
from mlrec.metrics.conventions import CONVENTIONS
from mlrec.metrics.evaluate import undefined_labels
from mlrec.metrics.thresholds import find_thresholds
from mlrec.reports.render.terminal import render_text
from mlrec.reports.runs_table import scored_tables

LABELS = ["both", "positives", "negatives", "unknown"]
SCORES = np.array([[2.0, 1.0, -1.0, 1.0], [1.0, -2.0, -1.0, 1.0], [-1.0, 3.0, 1.0, 1.0], [3.0, 1.0, -4.0, 1.0]])
TARGETS = np.array([[1, 1, 0, -1], [0, 1, 0, -1], [1, -1, 0, -1], [1, 1, 0, -1]])


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_only_labels_with_a_positive_and_a_negative_have_ap(conventions: str) -> None:
    metrics = evaluate(SCORES, TARGETS, labels=LABELS, conventions=conventions)
    alone = evaluate(SCORES[:, :1], TARGETS[:, :1], conventions=conventions)
    assert metrics.average_precision == {"both": alone.mAP, "positives": None, "negatives": None, "unknown": None}
    assert metrics.mAP == alone.mAP
    assert metrics.undefined == ["positives", "negatives", "unknown"]
    assert (metrics.counts["undefined"], metrics.counts["without_negative"]) == (3, 1)
    if conventions in ("mlrec", "csra"):
        assert alone.mAP == pytest.approx(average_precision_score(TARGETS[:, 0], SCORES[:, 0]))


@pytest.mark.parametrize("conventions", [name for name in CONVENTIONS if name != "csra-wider"])
def test_a_label_that_is_unknown_everywhere_leaves_every_mean(conventions: str) -> None:
    """What remains is what scikit-learn says of the other labels."""
    logits, targets = np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]]), np.array([[1, 0, -1], [0, 1, -1]])
    metrics = evaluate(logits, targets, conventions=conventions)
    without = evaluate(logits[:, :2], targets[:, :2], conventions=conventions)
    told = [metrics.mAP, metrics.CP, metrics.CR, metrics.CF1, metrics.OP, metrics.OR, metrics.OF1]
    assert told == [without.mAP, without.CP, without.CR, without.CF1, without.OP, without.OR, without.OF1] == [1.0] * 7
    assert metrics.CP == precision_score(targets[:, :2], logits[:, :2] >= 0, average="macro")
    assert metrics.CR == recall_score(targets[:, :2], logits[:, :2] >= 0, average="macro")
    never = evaluate(np.where(targets < 0, -1.0, logits), targets, conventions=conventions)
    assert [never.CP, never.OP] == [1.0, 1.0], "no phantom prediction of it either"


def test_where_unknown_is_negative_a_label_that_is_unknown_everywhere_counts() -> None:
    logits, targets = np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]]), np.array([[1, 0, -1], [0, 1, -1]])
    wider = evaluate(logits, targets, conventions="csra-wider")
    assert [wider.CP, wider.CR, wider.OP] == [pytest.approx(2 / 3), 1.0, 0.5]


def test_where_nothing_is_known_nothing_is_a_number() -> None:
    metrics = evaluate([[1.0, -1.0]], [[-1, -1]])
    assert {metrics.mAP, metrics.CP, metrics.CR, metrics.CF1, metrics.OP, metrics.OR, metrics.OF1} == {None}


def test_labels_with_positives_only_are_marked() -> None:
    """A table of 1 and -1: a model that predicts anything has precision 1, whatever it knows."""
    metrics = evaluate(np.random.default_rng(0).normal(size=(20, 2)), np.where(np.eye(2)[[0, 1] * 10], 1, -1))
    assert (metrics.mAP, metrics.CP, metrics.OP) == (None, 1.0, 1.0)
    main, by_label = scored_tables(metrics, title="p.csv", top3=True)
    hundred = [k for k, cell in enumerate(main.rows[0].cells) if cell == 1.0]
    assert hundred
    assert set(hundred) <= set(main.rows[0].marks)
    shown = render_text([main, by_label])
    assert "100.0¶" in shown
    assert "¶ 2 labels without a known negative: each positive prediction counts as correct" in shown
    assert "AP is undefined for labels without a known positive or without a known negative (2 of 2): 0, 1" in shown


def test_reasons_name_the_labels() -> None:
    assert undefined_labels(TARGETS.astype(np.int8), LABELS) == [
        "no AP for 1 of 4 labels (unknown in every sample): unknown",
        "no AP for 1 of 4 labels (no known positive): negatives",
        "no AP for 1 of 4 labels (no known negative; precision is 1 wherever these labels are predicted): positives",
    ]
    assert undefined_labels(TARGETS[:, :1].astype(np.int8), LABELS[:1]) == []


def test_thresholds_do_not_depend_on_a_label_that_is_unknown_everywhere() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((200, 3)) < 0.3).astype(np.int8)
    logits = rng.normal(size=(200, 3)) + targets
    unknown = np.full((200, 6), -1, dtype=np.int8)
    more = find_thresholds(np.hstack([logits, rng.normal(size=(200, 6))]), np.hstack([targets, unknown]))
    assert more.values[:3].tolist() == find_thresholds(logits, targets).values.tolist()
