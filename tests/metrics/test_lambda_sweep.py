"""Every λ from two parts: the arithmetic of Figure 1, and what a choice on the scored set is worth."""

from __future__ import annotations

import numpy as np
import pytest

from mlrec.metrics.evaluate import evaluate
from mlrec.metrics.lambda_sweep import LambdaSetting, Parts, chosen_before, chosen_here, mean_precisions
from mlrec.utils.errors import PredictionsError

MLREC = "mlrec"


@pytest.fixture(scope="module")
def parts() -> Parts:
    rng = np.random.default_rng(0)
    targets = (rng.random((120, 3)) < 0.3).astype(np.int8)
    targets[:5, 0] = -1
    average = rng.normal(size=(120, 3)).astype(np.float32) + targets
    maximum = average + rng.gamma(2.0, size=(120, 3)).astype(np.float32) * (1 + targets)
    return Parts(average, (maximum,), targets)


def test_raw_and_divided_logits() -> None:
    parts = Parts(
        np.array([[1.0, -3.0]]), (np.array([[2.0, 1.0]]), np.array([[10.0, 20.0]])), np.zeros((1, 2), np.int8)
    )
    assert parts.logits(LambdaSetting(0.0)) is parts.average
    assert parts.logits(LambdaSetting(0.5)).tolist() == [[2.0, -2.5]]
    assert parts.logits(LambdaSetting(0.5, 1)).tolist() == [[6.0, 7.0]]
    assert parts.logits(LambdaSetting(3.0), divided=True).tolist() == [[7 / 4, 0.0]]


def test_dividing_ranks_alike_and_changes_decisions(parts: Parts) -> None:
    raw, divided = (evaluate(parts.logits(LambdaSetting(0.7), divided=d), parts.targets) for d in (False, True))
    assert divided.mAP == pytest.approx(raw.mAP, abs=1e-12)
    biased = Parts(parts.average + 1, (parts.added[0] + 1,), parts.targets)
    raw, divided = (evaluate(biased.logits(LambdaSetting(0.7), divided=d), parts.targets) for d in (False, True))
    assert raw.OF1 == divided.OF1, "the sign of a logit is that of the logit divided"
    assert raw.top3 == divided.top3


def test_each_setting_scores_as_its_logits_do(parts: Parts) -> None:
    settings = [LambdaSetting(lam) for lam in (0.0, 0.3, 2.0)]
    expected = [
        evaluate(parts.average + np.float32(s.lam) * parts.added[0], parts.targets, scores="logits").mAP
        for s in settings
    ]
    assert mean_precisions(parts, settings, MLREC) == pytest.approx(expected)
    with pytest.raises(PredictionsError, match="no label in this split has both a known positive"):
        mean_precisions(Parts(parts.average, parts.added, np.zeros_like(parts.targets)), settings, MLREC)


def test_a_choice_on_the_scored_set_never_loses_and_its_interval_neither(parts: Parts) -> None:
    settings = [LambdaSetting(lam) for lam in np.arange(0, 1.01, 0.05).tolist()]
    scores = mean_precisions(parts, settings, MLREC)
    best = chosen_here(parts, settings, scores, 200)
    assert best.setting == settings[int(np.argmax(scores))]
    assert best.gain is not None
    assert best.gain.value == pytest.approx(max(scores) - scores[0])
    assert best.gain.low >= 0
    noise = Parts(parts.average, (np.random.default_rng(1).normal(size=parts.average.shape),), parts.targets)
    worthless = chosen_here(noise, settings, mean_precisions(noise, settings, MLREC), 200)
    assert worthless.gain is not None
    assert worthless.gain.value >= 0
    fixed = chosen_before(noise, LambdaSetting(0.5), 200)
    assert fixed.gain is not None
    assert fixed.gain.low < 0


def test_no_intervals_where_none_are_asked_for(parts: Parts) -> None:
    settings = [LambdaSetting(0.0), LambdaSetting(0.1)]
    assert chosen_here(parts, settings, [0.5, 0.6], 0).gain is None
    assert chosen_before(parts, LambdaSetting(0.1), 0).gain is None
