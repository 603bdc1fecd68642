"""AP against scikit-learn, torchmetrics, fractions and VOC's two definitions; mAP of frequent and rare labels."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from mlrec import evaluate
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.average_precision import FrequencyGroup, by_frequency
from mlrec.metrics.summary import Metrics
from mlrec.predictions import Predictions
from mlrec.reports.runs_table import scored_tables
from mlrec.run_folders.record import metrics_of
from tests.metrics.scoring_oracles import envelope_average_precision, exact_average_precision, random_case


def aps(logits, targets, conventions="mlrec"):
    return list(evaluate(logits, targets, conventions=conventions, scores="logits").average_precision.values())


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_agrees_with_scikit_learn_and_with_fractions(unknown: bool, ties: bool) -> None:
    for seed in range(60):
        logits, targets = random_case(seed, unknown=unknown, ties=ties)
        for c, ap in enumerate(aps(logits, targets)):
            known = targets[:, c] >= 0
            truth, scores = targets[known, c], logits[known, c]
            assert ap == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
            if seed < 15:
                assert ap == pytest.approx(float(exact_average_precision(scores, truth == 1)), abs=1e-12)


@pytest.mark.parametrize(("conventions", "eleven"), [("voc2010", False), ("voc2007-11pt", True)])
@pytest.mark.parametrize("ties", [False, True])
def test_voc_interpolations(conventions: str, eleven: bool, ties: bool) -> None:
    for seed in range(25):
        logits, targets = random_case(seed, ties=ties, samples=30)
        expected = [
            envelope_average_precision(s, t == 1, eleven=eleven) for s, t in zip(logits.T, targets.T, strict=True)
        ]
        assert aps(logits, targets, conventions) == pytest.approx(expected, abs=1e-12)


def test_eleven_points_reach_three_tenths_of_recall_in_whole_numbers() -> None:
    # 10 positives; recall is exactly 3/10 at the third, where the float 0.1 * 3 would ask for more than 0.3
    logits = np.arange(20.0)[::-1, None]
    targets = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0])[:, None]
    above = dict.fromkeys(range(4), 1.0) | dict.fromkeys(range(4, 11), 10 / 17)
    assert aps(logits, targets, "voc2007-11pt")[0] == pytest.approx(sum(above.values()) / 11, abs=1e-12)


def test_agrees_with_torchmetrics_on_probabilities() -> None:
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.classification import multilabel_average_precision

    logits, targets = random_case(3, samples=200, labels=6)
    theirs = multilabel_average_precision(
        torch.sigmoid(torch.tensor(logits)), torch.tensor(targets), num_labels=6, average=None
    )
    assert aps(logits, targets) == pytest.approx(theirs.tolist(), abs=1e-6)


def test_saturated_probabilities_still_differ_as_logits() -> None:
    # float32 sigmoid makes all four 1.0, and torchmetrics says 0.5
    logits = np.array([[30.0], [25.0], [22.0], [20.0]], dtype=np.float32)
    assert aps(logits, np.array([[1], [0], [1], [0]]))[0] == pytest.approx(5 / 6, abs=1e-15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_ranked_in_the_type_given(dtype: type) -> None:
    steps = np.finfo(dtype).eps * np.array([2, 1, 3, 0], dtype=dtype)
    logits = (np.ones(4, dtype=dtype) + steps)[:, None]
    assert len(set(logits[:, 0].tolist() if dtype is not np.longdouble else map(str, logits[:, 0]))) == 4
    assert aps(logits, np.array([[1], [0], [1], [0]]))[0] == 1.0


@given(seed=st.integers(0, 10**6), ties=st.booleans(), unknown=st.booleans(), wide=st.booleans())
def test_permuting_rows_changes_no_bit(seed: int, ties: bool, unknown: bool, wide: bool) -> None:
    logits, targets = random_case(seed, unknown=unknown, ties=ties)
    logits = logits if wide else logits.astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(logits))
    for conventions in ("mlrec", "csra-wider", "voc2007-11pt", "topk-pure"):
        one, other = (
            evaluate(logits[rows], targets[rows], conventions=conventions, scores="logits")
            for rows in (slice(None), order)
        )
        assert one.to_dict() == other.to_dict()


@given(seed=st.integers(0, 10**6))
def test_a_label_that_is_never_positive_changes_no_bit_of_map(seed: int) -> None:
    logits, targets = random_case(seed, ties=True)
    more = np.hstack([logits, np.random.default_rng(seed).normal(size=(len(logits), 1))])
    without = evaluate(logits, targets, scores="logits")
    with_it = evaluate(more, np.hstack([targets, np.zeros_like(targets[:, :1])]), scores="logits")
    assert with_it.mAP == without.mAP
    assert with_it.CR == pytest.approx(without.CR, abs=1e-14)
    assert with_it.undefined == [str(targets.shape[1])]
    assert with_it.counts["undefined"] == 1


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
