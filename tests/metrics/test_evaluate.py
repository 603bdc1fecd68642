"""`evaluate` and `Metrics`: the contract, what is refused, what is stored. Data frames are matched by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

from mlrec import Metrics, MlrecError, evaluate
from mlrec.metrics.conventions import CONVENTIONS, Conventions, differences
from mlrec.metrics.evaluate import evaluate_scores
from mlrec.utils.errors import PredictionsError, UsageError
from tests.metrics.scoring_oracles import random_case

LOGITS, TARGETS = random_case(1, unknown=True, samples=20, labels=4)
VALUES, TRUTH = random_case(4, samples=30, labels=3)
NAMES, LABELS = [f"{k}.jpg" for k in range(30)], ["cat", "dog", "hen"]
SCORED, TRUE = pd.DataFrame(VALUES, NAMES, LABELS), pd.DataFrame(TRUTH, NAMES, LABELS)


def test_stored_object(tmp_path: Path) -> None:
    metrics = evaluate(LOGITS, TARGETS, labels=["a", "b", "c", "d"], conventions="csra")
    metrics.save(tmp_path / "metrics.json")
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert list(stored) == [
        "mAP", "CP", "CR", "CF1", "OP", "OR", "OF1", "top3", "average_precision", "counts", "conventions",
        "per_label", "by_frequency", "top",
    ]  # fmt: skip
    assert list(stored["top3"]) == ["CP", "CR", "CF1", "OP", "OR", "OF1"]
    assert list(stored["average_precision"]) == ["a", "b", "c", "d"]
    assert list(stored["counts"]) == ["samples", "labels", "positives", "unknown", "undefined"]
    assert stored["conventions"]["name"] == "csra"
    assert stored["mAP"] == metrics.mAP
    assert Metrics.load(tmp_path / "metrics.json") == metrics


def test_the_rates_of_the_k_highest_are_stored_only_if_they_were_asked_for(tmp_path: Path) -> None:
    metrics = evaluate(LOGITS, TARGETS, top=2)
    metrics.save(tmp_path / "metrics.json")
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert list(stored["top"]) == ["2"]
    assert list(stored["top"]["2"]) == ["CP", "CR", "CF1", "OP", "OR", "OF1", "F1"]
    assert Metrics.load(tmp_path / "metrics.json") == metrics
    assert metrics.flat()["top2/F1"] == metrics.top[2].F1
    assert "top2/F1" not in evaluate(LOGITS, TARGETS).flat()
    assert "top-2" in str(metrics)


def test_undefined_is_null(tmp_path: Path) -> None:
    metrics = evaluate(LOGITS, np.zeros_like(TARGETS))
    metrics.save(tmp_path / "metrics.json")
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert stored["mAP"] is None
    assert stored["average_precision"] == {"0": None, "1": None, "2": None, "3": None}
    assert Metrics.load(tmp_path / "metrics.json") == metrics


@pytest.mark.parametrize("text", ["", "[]", '{"mAP": 1}', '{"mAP": "x"}', "\x00"])
def test_a_file_that_is_not_a_metrics_file_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(PredictionsError, match="not a metrics file"):
        Metrics.load(tmp_path / "metrics.json")


def test_labels_are_numbered_when_not_named() -> None:
    assert list(evaluate(LOGITS, TARGETS).average_precision) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_named(value: float) -> None:
    logits = LOGITS.copy()
    logits[7, 2] = value
    with pytest.raises(MlrecError, match=r"1 (NaN|infinite) score: sample 7, label 'c'"):
        evaluate(logits, TARGETS, labels=list("abcd"))
    ids = [f"img{k}.jpg" for k in range(20)]
    with pytest.raises(MlrecError, match=r"sample 'img7\.jpg', label 2"):
        evaluate_scores(logits, TARGETS, threshold=0.0, sample_ids=ids)


@pytest.mark.parametrize(
    ("logits", "targets", "labels", "told"),
    [
        (LOGITS[0], TARGETS[0], None, "pass floats of shape (N, C)"),
        (LOGITS[:, :0], TARGETS[:, :0], None, "pass floats of shape (N, C)"),
        (LOGITS.astype(str), TARGETS, None, "dtype"),
        (LOGITS, TARGETS[:, :3], None, "pass one target per logit"),
        (LOGITS, TARGETS * 2, None, "1 (positive), 0 (negative) or -1 (unknown)"),
        (LOGITS, np.where(TARGETS == 1, np.nan, 0), None, "targets contain invalid values"),
        ([[1.0, 2.0], [3.0]], [[1, 0], [0, 1]], None, "logits cannot be converted to a numeric array"),
        (LOGITS, [[1, 0], [1]], None, "targets cannot be converted to a numeric array"),
        (LOGITS, TARGETS, ["a", "b"], "2 label names for 4 logit columns"),
        (LOGITS, TARGETS, ["a", "b", "b", "c"], "'b' is listed twice"),
    ],
)
def test_invalid_scores_and_targets_are_refused(logits, targets, labels, told: str) -> None:
    with pytest.raises(PredictionsError) as caught:
        evaluate(logits, targets, labels=labels)
    assert told in str(caught.value)


def test_whole_numbers_booleans_and_lists_are_scored() -> None:
    assert evaluate([[2], [-3]], [[True], [False]]).mAP == 1.0


def test_unknown_conventions_name_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'csra-wider'"):
        evaluate(LOGITS, TARGETS, conventions="csra_wider")


def test_own_conventions() -> None:
    own = Conventions("mine", average_precision="envelope", class_f1="mean")
    assert evaluate(LOGITS, TARGETS, conventions=own).mAP == evaluate(LOGITS, TARGETS, conventions="voc2010").mAP


def test_each_named_convention_is_under_its_name_and_differs_from_the_default() -> None:
    assert all(name == rules.name for name, rules in CONVENTIONS.items())
    told = {name: differences(CONVENTIONS["mlrec"], rules) for name, rules in CONVENTIONS.items()}
    assert told == {
        "mlrec": [],
        "csra": ["phantom"],
        "csra-wider": ["unknown_in_counts", "phantom"],
        "macro-f1": ["class_f1"],
        "voc2010": ["average_precision"],
        "voc2007-11pt": ["average_precision"],
        "topk-pure": ["top_k"],
    }
    assert len({rules.in_words().partition(": ")[2] for rules in CONVENTIONS.values()}) == len(CONVENTIONS)


def test_input_is_left_as_it_was() -> None:
    logits, targets = LOGITS.copy(), TARGETS.copy()
    evaluate(logits, targets, conventions="topk-pure")
    assert (logits == LOGITS).all()
    assert (targets == TARGETS).all()


def test_rows_and_columns_in_any_order_give_the_same() -> None:
    expected = {
        label: pytest.approx(average_precision_score(TRUTH[:, k], VALUES[:, k])) for k, label in enumerate(LABELS)
    }
    known = evaluate(SCORED, TRUE)
    assert known.average_precision == expected
    mixed = SCORED.sample(frac=1, random_state=0)[["hen", "cat", "dog"]]
    assert evaluate(mixed, TRUE) == known
    assert evaluate(SCORED, TRUE.iloc[::-1]) == known
    assert list(evaluate(mixed, TRUE, labels=["dog", "hen", "cat"]).average_precision) == ["dog", "hen", "cat"]


def test_one_frame_names_the_labels_of_an_array() -> None:
    assert list(evaluate(SCORED, TRUTH).average_precision) == LABELS
    assert evaluate(VALUES, TRUE) == evaluate(SCORED, TRUTH) == evaluate(SCORED, TRUE)
    swapped = evaluate(SCORED, TRUTH[:, [1, 0, 2]], labels=["dog", "cat", "hen"])
    assert swapped.average_precision == evaluate(SCORED, TRUE).average_precision


@pytest.mark.parametrize(
    ("scores", "targets", "told"),
    [
        (
            SCORED.drop(columns="hen"),
            TRUE,
            r"labels \(columns\) .* must be the same \(only in targets: 'hen'",
        ),
        (SCORED.rename(columns={"hen": "Hen"}), TRUE, "only in targets: 'hen'; only in scores: 'Hen'"),
        (SCORED.iloc[1:], TRUE, r"samples \(index\) .* must be the same \(only in targets: '0\.jpg'"),
        (SCORED.reset_index(drop=True), TRUE, r"only in scores: 0, 1, 2 and 27 more"),
        (SCORED.rename(index={"1.jpg": "0.jpg"}), TRUE, r"'0\.jpg' occurs more than once in the index of scores"),
        (SCORED, TRUE[["cat", "cat", "hen"]], "'cat' occurs more than once in the columns of targets"),
        (SCORED.reset_index(), TRUE.reset_index(), r"column 'index' of .* is not numeric.*set_index"),
        (SCORED, TRUE.astype(object).mask(TRUE == 1, None), "not numeric or has empty cells"),
        (SCORED.iloc[1:], TRUTH, "pass one target per logit"),
    ],
)
def test_differing_names_are_reported_with_the_difference(scores, targets, told: str) -> None:
    with pytest.raises(PredictionsError, match=told):
        evaluate(scores, targets)


def test_labels_must_be_the_columns() -> None:
    with pytest.raises(
        PredictionsError, match=r"differ from the columns of targets \(missing: 'cow'; not in labels: 'hen'"
    ):
        evaluate(SCORED, TRUE, labels=["cat", "dog", "cow"])


def test_errors_name_sample_and_label() -> None:
    damaged = SCORED.copy()
    damaged.loc["7.jpg", "dog"] = np.nan
    with pytest.raises(PredictionsError, match=r"sample '7\.jpg', label 'dog'"):
        evaluate(damaged.iloc[::-1], TRUE)


def test_numbers_keep_their_type() -> None:
    steps = pd.DataFrame({"a": np.array([1, 0], np.float64) * 2**-40 - 1})
    assert evaluate(steps, pd.DataFrame({"a": [1, 0]})).mAP == 1.0
    mixed = pd.DataFrame({"a": [True, False], "b": [1, 0]})
    assert evaluate(mixed - 0.5 * np.ones((2, 2)), mixed).mAP == 1.0


def test_a_table_without_an_index_is_refused() -> None:
    class Table:
        columns = ("cat",)

    with pytest.raises(PredictionsError, match=r"scores are of type .*Table, which has no index"):
        evaluate(Table(), TRUTH)  # type: ignore[arg-type]


def test_arrays_are_scored_without_pandas() -> None:
    code = "import sys, mlrec; mlrec.evaluate([[1.0], [-1.0]], [[1], [0]]); sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", [dict, pd.Series])
def test_thresholds_with_names_are_matched_by_label(kind: type) -> None:
    expected = evaluate(SCORED, TRUE, threshold=[0.1, -0.2, 0.3])
    assert evaluate(SCORED, TRUE, threshold=kind({"hen": 0.3, "cat": 0.1, "dog": -0.2})) == expected
    assert evaluate(VALUES, TRUTH, threshold=kind({1: -0.2, 0: 0.1, 2: 0.3}), scores="logits").CF1 == expected.CF1
    with pytest.raises(PredictionsError, match="threshold 'hen' is missing; pass one threshold for each label name"):
        evaluate(SCORED, TRUE, threshold=kind({"cat": 0.1, "dog": 0.2}))
    with pytest.raises(PredictionsError, match="threshold 'cow' has no label of this name"):
        evaluate(SCORED, TRUE, threshold=kind({"hen": 0.3, "cat": 0.1, "dog": 0.2, "cow": 0.4}))


def test_masked_values_are_not_silently_unmasked() -> None:
    masked = np.ma.masked_array(TRUTH, mask=VALUES > 0.5)
    with pytest.raises(PredictionsError, match=r"targets cannot .* masked values; fill them, .*filled\(-1\)"):
        evaluate(VALUES, masked)
    assert evaluate(VALUES, masked.filled(-1)).counts["unknown"] == np.count_nonzero(VALUES > 0.5)
    assert evaluate(VALUES, np.ma.masked_array(TRUTH, mask=False)) == evaluate(VALUES, TRUTH)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"top": 1.5}, "top must be from 1 to 3"),
        ({"top": [1, 2]}, "top must be from 1 to 3"),
        ({"threshold": "high"}, "threshold is not numeric"),
        ({"threshold": torch.zeros(2, requires_grad=True)}, r"threshold has shape \(2,\)"),
        ({"sample_ids": ["a"]}, "got 1 id for 30 samples"),
        ({"logits": None}, "logits are of type NoneType"),
        ({"targets": np.where(TRUTH == 1, 2, 0)}, r"invalid values, first 2 \(sample \d+, label \d\); use 1 "),
        ({"targets": TRUTH.astype(str)}, "dtype <U"),
    ],
)
def test_wrong_arguments_are_explained(options: dict, told: str) -> None:
    with pytest.raises(MlrecError, match=told):
        evaluate(**{"logits": VALUES, "targets": TRUTH, **options})
