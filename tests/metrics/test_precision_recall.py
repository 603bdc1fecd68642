"""Precision, recall, F1 and top-3: the golden set, the paper's code by its description, scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score
from torchmetrics.functional.classification import multilabel_f1_score

from mlrec import evaluate
from mlrec.metrics.evaluate import evaluate_scores
from mlrec.utils.errors import UsageError
from tests.metrics.scoring_oracles import paper_code, random_case

SCORES = np.array([[0.9, 0.6, 0.2, 0.1], [0.5, 0.7, 0.8, 0.3], [0.5, 0.2, 0.9, 0.6], [0.1, 0.55, 0.7, 0.65]])
TARGETS = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]])
RATES = ("CP", "CR", "CF1", "OP", "OR", "OF1")


def test_golden_set() -> None:
    metrics = evaluate_scores(SCORES, TARGETS, threshold=0.5, labels=list("abcd"))
    assert metrics.average_precision == {
        "a": pytest.approx(0.83333, abs=1e-5),
        "b": pytest.approx(0.75),
        "c": pytest.approx(0.83333, abs=1e-5),
        "d": None,
    }
    assert metrics.mAP == pytest.approx((0.75 + 2 * 5 / 6) / 3, abs=1e-15)
    told = [metrics.OP, metrics.OR, metrics.OF1, metrics.CP, metrics.CR]
    assert told == pytest.approx([0.45455, 0.83333, 0.58824, 0.41667, 0.83333], abs=1e-5)
    assert metrics.counts == {"samples": 4, "labels": 4, "positives": 6, "unknown": 0, "undefined": 1}


@pytest.mark.parametrize(("conventions", "wider"), [("csra", False), ("csra-wider", True)])
def test_the_papers_code_by_its_description(conventions: str, wider: bool) -> None:
    for seed in range(60):
        logits, targets = random_case(seed, unknown=True, labels=5)
        logits -= 1.5 * (seed % 2)  # some labels are never predicted
        targets[:, 0] = np.where(targets[:, 0] == 1, 0, targets[:, 0]) if seed % 3 == 0 else targets[:, 0]
        ours = evaluate(logits, targets, conventions=conventions)
        probabilities = 1 / (1 + np.exp(-logits))
        expected = paper_code(probabilities, targets, wider=wider)
        assert {name: getattr(ours, name) for name in expected} == pytest.approx(expected, abs=1e-9)
        top3 = paper_code(probabilities, targets, wider=wider, top3=True)
        assert {name: getattr(ours.top3, name) for name in RATES} == pytest.approx(
            {n: top3[n] for n in RATES}, abs=1e-9
        )


def test_unknown_in_counts_is_where_wider_differs() -> None:
    logits, targets = np.array([[2.0], [1.5], [1.0], [-1.0]]), np.array([[1], [-1], [0], [1]])
    assert [evaluate(logits, targets).OP, evaluate(logits, targets).OR] == [0.5, 0.5]
    wider = evaluate(logits, targets, conventions="csra-wider")
    assert [wider.OP, wider.OR] == [pytest.approx(1 / 3), 0.5]
    assert wider.mAP == evaluate(logits, targets).mAP


def test_one_phantom_prediction_in_op_for_each_label_never_predicted() -> None:
    logits, targets = np.array([[1.0, -1.0, -1.0]]), np.array([[1, 1, 0]])
    assert evaluate(logits, targets).OP == 1.0
    assert evaluate(logits, targets, conventions="csra").OP == pytest.approx(1 / 3)
    assert evaluate(logits, targets, conventions="csra").CP == evaluate(logits, targets).CP


def test_macro_f1_is_scikit_learns() -> None:
    for seed in range(40):
        logits, targets = random_case(seed)
        said = (logits >= 0).astype(int)
        ours = evaluate(logits, targets, conventions="macro-f1")
        scored = {"zero_division": 0, "average": "macro"} if targets.shape[1] > 1 else {"zero_division": 0}
        if targets.shape[1] == 1:
            said, targets = said[:, 0], targets[:, 0]
        assert ours.CF1 == pytest.approx(f1_score(targets, said, **scored), abs=1e-12)
        assert ours.CP == pytest.approx(precision_score(targets, said, **scored), abs=1e-12)
        assert ours.CR == pytest.approx(recall_score(targets, said, **scored), abs=1e-12)


def test_top_three_prefers_the_lowest_index_and_lets_unknown_take_a_slot() -> None:
    logits = np.array([[1.0, 2.0, 1.0, 1.0, -5.0]])
    # labels 0, 1 and 2 are chosen of the equal 0, 2, 3
    assert evaluate(logits, np.array([[1, 1, 1, 0, 0]])).top3.OP == 1.0
    assert evaluate(logits, np.array([[0, 0, 0, 1, 0]])).top3.OR == 0.0
    # an unknown label holds its slot: label 3 does not move up
    assert evaluate(logits, np.array([[1, -1, 1, 1, 0]])).top3.OR == pytest.approx(2 / 3)


def test_top_three_above_the_threshold_or_all_three() -> None:
    logits, targets = np.array([[1.0, -1.0, -2.0, -3.0]]), np.array([[1, 1, 0, 0]])
    assert evaluate(logits, targets).top3.OP == 1.0
    assert evaluate(logits, targets).top3.OR == 0.5
    pure = evaluate(logits, targets, conventions="topk-pure")
    assert [pure.top3.OP, pure.top3.OR] == [pytest.approx(2 / 3), 1.0]
    assert pure.OP == evaluate(logits, targets).OP


def test_fewer_labels_than_three() -> None:
    metrics = evaluate(np.array([[1.0, -1.0]]), np.array([[1, 0]]))
    assert metrics.top3.OF1 == metrics.OF1 == 1.0


def test_means_over_nothing_are_none_and_nothing_predicted_is_zero() -> None:
    nothing = evaluate(np.full((3, 2), -1.0), np.zeros((3, 2)))
    assert [nothing.mAP, nothing.CR, nothing.CF1, nothing.OR, nothing.OF1] == [None] * 5
    assert [nothing.CP, nothing.OP] == [0.0, 0.0]
    never = evaluate(np.full((3, 2), -1.0), np.ones((3, 2)))
    assert [never.CP, never.CR, never.CF1, never.OP, never.OR, never.OF1] == [0.0] * 6


@pytest.mark.parametrize("conventions", ["mlrec", "csra", "csra-wider", "macro-f1", "topk-pure"])
def test_top_three_by_its_number_is_top_three(conventions: str) -> None:
    for seed in range(20):
        logits, targets = random_case(seed, unknown=True, ties=True, labels=5)
        metrics = evaluate(logits, targets, conventions=conventions, top=3, scores="logits")
        assert [getattr(metrics.top[3], name) for name in RATES] == [getattr(metrics.top3, name) for name in RATES]
        assert replace(metrics, top={}) == evaluate(logits, targets, conventions=conventions, scores="logits")


@pytest.mark.parametrize("k", [1, 2, 5, 9, 12])
def test_top_k_and_f1_at_k_by_brute_force_and_scikit_learn(k: int) -> None:
    for seed in range(10):
        logits, targets = random_case(seed, ties=True, labels=12)
        logits -= 0.5
        highest = np.zeros(logits.shape, dtype=int)
        for row, scores in enumerate(logits):
            highest[row, sorted(range(12), key=lambda label: (-scores[label], label))[:k]] = 1
        ours = evaluate(logits, targets, top=k, conventions="macro-f1").top[k]
        said = highest * (logits >= 0)
        assert ours.CF1 == pytest.approx(f1_score(targets, said, average="macro", zero_division=0), abs=1e-12)
        assert ours.OP == pytest.approx(precision_score(targets, said, average="micro", zero_division=0), abs=1e-12)
        assert ours.OR == pytest.approx(recall_score(targets, said, average="micro"), abs=1e-12)
        assert ours.F1 == pytest.approx(f1_score(targets, highest, average="micro"), abs=1e-12)
        pure = evaluate(logits, targets, top=k, conventions="topk-pure").top[k]
        assert pure.F1 == pure.OF1 == ours.F1


def test_f1_at_k_is_the_micro_f1_of_torchmetrics() -> None:
    logits, targets = random_case(3, labels=9, samples=50)
    for k in (3, 5):
        highest = torch.zeros(logits.shape, dtype=torch.int64)
        highest.scatter_(1, torch.from_numpy(logits).topk(k, dim=1).indices, 1)
        expected = multilabel_f1_score(highest, torch.from_numpy(targets), num_labels=9, average="micro").item()
        assert evaluate(logits, targets, top=k).top[k].F1 == pytest.approx(expected, abs=1e-6)


def test_f1_at_k_has_no_threshold_and_no_phantom_and_ignores_unknown() -> None:
    logits = np.array([[-1.0, -2.0, -3.0], [-1.0, -3.0, -2.0]])
    targets = np.array([[1, 0, 0], [-1, 0, 1]])
    for conventions in ("mlrec", "csra"):
        top = evaluate(logits, targets, top=2, conventions=conventions).top[2]
        assert [top.OR, top.OF1] == [0.0, 0.0]  # nothing reaches the threshold
        assert top.F1 == pytest.approx(0.8)  # 2 of 3 known decisions are correct, 2 of 2 positives are found


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_is_at_most_the_number_of_labels(k: int) -> None:
    with pytest.raises(UsageError, match=rf"top must be from 1 to 3 \(the number of scored labels\), but got {k}"):
        evaluate([[1.0, -1.0, 0.0]], [[1, 0, 0]], top=k)
