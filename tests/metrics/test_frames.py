"""Data frames are matched by the names of their rows and columns."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from mlrec import evaluate
from mlrec.utils.errors import PredictionsError
from tests.metrics.scoring_oracles import random_case

LOGITS, TARGETS = random_case(4, samples=30, labels=3)
NAMES, LABELS = [f"{k}.jpg" for k in range(30)], ["cat", "dog", "hen"]
SCORED, TRUE = pd.DataFrame(LOGITS, NAMES, LABELS), pd.DataFrame(TARGETS, NAMES, LABELS)


def test_rows_and_columns_in_any_order_give_the_same() -> None:
    expected = {
        label: pytest.approx(average_precision_score(TARGETS[:, k], LOGITS[:, k])) for k, label in enumerate(LABELS)
    }
    known = evaluate(SCORED, TRUE)
    assert known.average_precision == expected
    mixed = SCORED.sample(frac=1, random_state=0)[["hen", "cat", "dog"]]
    assert evaluate(mixed, TRUE) == known
    assert evaluate(SCORED, TRUE.iloc[::-1]) == known
    assert list(evaluate(mixed, TRUE, labels=["dog", "hen", "cat"]).average_precision) == ["dog", "hen", "cat"]


def test_one_frame_names_the_labels_of_an_array() -> None:
    assert list(evaluate(SCORED, TARGETS).average_precision) == LABELS
    assert evaluate(LOGITS, TRUE) == evaluate(SCORED, TARGETS) == evaluate(SCORED, TRUE)
    swapped = evaluate(SCORED, TARGETS[:, [1, 0, 2]], labels=["dog", "cat", "hen"])
    assert swapped.average_precision == evaluate(SCORED, TRUE).average_precision


@pytest.mark.parametrize(
    ("scores", "targets", "told"),
    [
        (
            SCORED.drop(columns="hen"),
            TRUE,
            r"labels \(columns\) .* differ but must be the same \(only in targets: 'hen'",
        ),
        (SCORED.rename(columns={"hen": "Hen"}), TRUE, "only in targets: 'hen'; only in scores: 'Hen'"),
        (SCORED.iloc[1:], TRUE, r"samples \(index\) .* differ but must be the same \(only in targets: '0\.jpg'"),
        (SCORED.reset_index(drop=True), TRUE, r"only in scores: 0, 1, 2 and 27 more"),
        (SCORED.rename(index={"1.jpg": "0.jpg"}), TRUE, r"'0\.jpg' occurs more than once in the index of scores"),
        (SCORED, TRUE[["cat", "cat", "hen"]], "'cat' occurs more than once in the columns of targets"),
        (SCORED.reset_index(), TRUE.reset_index(), r"column 'index' of .* is not numeric.*set_index"),
        (SCORED, TRUE.astype(object).mask(TRUE == 1, None), "not numeric or has empty cells"),
        (SCORED.iloc[1:], TARGETS, "pass one target per logit"),
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
        evaluate(Table(), TARGETS)  # type: ignore[arg-type]


def test_arrays_are_scored_without_pandas() -> None:
    code = "import sys, mlrec; mlrec.evaluate([[1.0], [-1.0]], [[1], [0]]); sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
