"""Resamples against resampling by hand; intervals, differences, seeds, choices, tests by label."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mlrec import evaluate
from mlrec.metrics.bootstrap import (
    METRICS,
    Bootstrap,
    best_of,
    mAP_interval,
    metric_intervals,
    paired_difference,
    paired_differences,
    paired_seeds,
)
from mlrec.metrics.intervals import bias_corrected
from mlrec.metrics.label_significance import holm, label_intervals, label_tests, normal_p
from mlrec.metrics.resamples import Units, replicates
from mlrec.utils.errors import PredictionsError
from tests.metrics.scoring_oracles import random_case


def read(path: Path) -> tuple[list[str], np.ndarray]:
    with path.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    return header[1:], np.array([[float(cell) for cell in row[1:]] for row in rows])


@pytest.mark.parametrize("conventions", ["mlrec", "csra", "csra-wider", "macro-f1", "voc2010", "voc2007-11pt"])
@pytest.mark.parametrize("grouped", [False, True])
def test_each_resample_scores_as_its_rows_written_out(conventions: str, grouped: bool) -> None:
    logits, targets = random_case(5, unknown=True, ties=True, samples=40, labels=4)
    targets[:, 3] = np.where(np.arange(40) == 7, 1, 0)  # one positive: many resamples have none
    targets[:, 1] = np.where(np.arange(40) == 9, 0, 1)  # one negative
    targets[:, 2] = np.where(np.arange(40) < 2, [1, 0] * 20, -1)  # two known samples
    groups = np.arange(40) // 3 if grouped else np.random.default_rng(0).permutation(40)
    units = Units.of(40, groups)
    fast = replicates(logits, targets, units, conventions=conventions, resamples=150, seed=3)
    weights = np.concatenate(list(units.draw(150, 3)), axis=1).T
    assert (weights.sum(axis=1) == units.number).all()
    for b, weight in enumerate(weights):
        rows = np.repeat(np.arange(40), weight[units.of_sample])
        slow = evaluate(logits[rows], targets[rows], conventions=conventions, scores="logits")
        expected = [np.nan if ap is None else ap for ap in slow.average_precision.values()]
        assert fast.average_precision[b] == pytest.approx(expected, abs=1e-12, nan_ok=True)
        for name in METRICS:
            assert fast.values[name][b] == pytest.approx(getattr(slow, name), abs=1e-12)
    assert np.isnan(fast.average_precision).any(axis=0).tolist() == [False, True, True, True]


def test_the_same_seed_gives_the_same_interval() -> None:
    logits, targets = random_case(2, samples=50, labels=3)
    assert metric_intervals(logits, targets) == metric_intervals(logits, targets)
    assert mAP_interval(logits, targets) != mAP_interval(logits, targets, seed=1)


def test_persons_of_an_image_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat((rng.random((60, 1)) < 0.5).astype(int), 8, axis=0)
    logits = np.repeat(rng.normal(size=(60, 1)), 8, axis=0) + targets
    images = np.repeat([f"{k}.jpg" for k in range(60)], 8)
    alone, together = mAP_interval(logits, targets), mAP_interval(logits, targets, groups=images)
    assert together.units == 60
    assert together.half_width > 2 * alone.half_width
    with pytest.raises(PredictionsError, match="3 groups for 480 samples"):
        mAP_interval(logits, targets, groups=[1, 2, 3])


def test_an_undefined_metric_has_no_interval() -> None:
    intervals = metric_intervals(np.zeros((5, 2)), np.zeros((5, 2), dtype=int), resamples=20)
    assert intervals["mAP"] is None
    assert intervals["OP"].value == 0.0
    assert metric_intervals(np.zeros((5, 2)), -np.ones((5, 2), dtype=int), resamples=20)["OP"] is None


def test_equal_predictions_do_not_differ() -> None:
    logits, targets = random_case(4, samples=60, labels=3)
    for interval in paired_differences(logits, logits, targets).values():
        assert (interval.value, interval.low, interval.high, interval.excludes_zero) == (0.0, 0.0, 0.0, False)
    assert [test.p for test in label_tests(logits, logits, targets, list("abc"))] == [1.0, 1.0, 1.0]


def test_a_difference_is_known_better_on_the_same_draws() -> None:
    logits, targets = random_case(6, samples=200, labels=4)
    better = logits + 0.3 * targets
    paired = paired_difference(better, logits, targets)
    assert paired.value == evaluate(better, targets).mAP - evaluate(logits, targets).mAP
    assert paired.low > 0
    assert paired.excludes_zero
    assert paired.half_width < mAP_interval(logits, targets).half_width / 2


def test_a_claim_about_a_method_draws_its_seeds() -> None:
    logits, targets = random_case(7, samples=120, labels=3)
    rng = np.random.default_rng(0)
    runs = [logits + rng.normal(size=logits.shape) for _ in range(4)]
    one, method = mAP_interval(runs[0], targets), mAP_interval(runs, targets)
    assert method.seeds == (4,)
    assert method.value == pytest.approx(np.mean([evaluate(run, targets).mAP for run in runs]), abs=1e-15)
    difference = paired_difference(runs[:3], [logits], targets)
    assert difference.seeds == (3, 1)
    fixed = paired_difference(runs[0], logits, targets)
    assert fixed.seeds == (1, 1)
    # equal runs add nothing: the seeds drawn do not matter
    assert mAP_interval([runs[0]] * 3, targets).high == pytest.approx(one.high, abs=1e-12)


def test_an_interval_of_few_seeds_stays_within_the_range_of_its_metric() -> None:
    targets = np.array([[1], [0]] * 30)
    perfect, poor = np.where(targets == 1, 1.0, -1.0), np.full((60, 1), -1.0)
    for name, interval in metric_intervals([perfect, poor, poor], targets).items():
        assert 0 <= interval.low <= interval.high <= 1, name
    assert paired_difference([poor, poor], [perfect, perfect], targets).low < -0.3


def test_two_readings_of_the_same_models_draw_their_seeds_together() -> None:
    logits, targets = random_case(7, samples=120, labels=3)
    rng = np.random.default_rng(0)
    runs = [logits + scale * rng.normal(size=logits.shape) for scale in (0.0, 1.0, 3.0)]
    shifted = [run + 0.05 * targets for run in runs]
    together, apart = paired_seeds(shifted, runs, targets), paired_difference(shifted, runs, targets)
    assert together.value == apart.value
    assert together.half_width < apart.half_width / 2


def test_the_spread_of_drawn_seeds_is_that_of_seeds() -> None:
    targets = np.array([[1], [0]] * 200)
    runs = [np.where(targets == 1, 0.0, np.linspace(-1 + shift, shift, 400)[:, None]) for shift in (0.2, 0.4, 0.7)]
    values = [evaluate(run, targets).mAP for run in runs]
    estimate = Bootstrap(targets, resamples=4000).estimate(runs)
    images = np.mean([np.std(Bootstrap(targets).resample(run).values["mAP"]) for run in runs])
    total = np.std(estimate.resampled.values["mAP"])
    assert total == pytest.approx(np.hypot(np.std(values, ddof=1) / np.sqrt(3), images), rel=0.15)


def test_a_choice_is_repeated_in_every_resample() -> None:
    logits, targets = random_case(8, samples=80, labels=3)
    rng = np.random.default_rng(1)
    candidates = [logits] + [logits + 0.3 * rng.normal(size=logits.shape) for _ in range(5)]
    best = best_of(candidates, 0, targets, resamples=300)
    scores = [evaluate(scores, targets).mAP for scores in candidates]
    assert best.chosen == int(np.argmax(scores))
    assert best.gain.value == max(scores) - scores[0]
    assert best.gain.low >= 0
    assert sum(best.shares) == pytest.approx(1.0)
    assert best_of([logits, logits], 0, targets, resamples=50).shares == (1.0, 0.0)


def test_bias_corrected_percentiles() -> None:
    drawn = np.random.default_rng(0).normal(size=200_000)
    assert bias_corrected(0.0, drawn) == pytest.approx((-1.96, 1.96), abs=0.03)
    # resamples that lie half a deviation too high: both ends move down by a whole one
    assert bias_corrected(-0.5, drawn) == pytest.approx((-2.96, 0.96), abs=0.05)
    assert bias_corrected(1.0, np.ones(10)) == (1.0, 1.0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_of_a_normal_difference() -> None:
    drawn = np.random.default_rng(0).normal(1.96, 1.0, size=100_000)
    assert normal_p(1.96, drawn) == pytest.approx(0.05, abs=0.002)
    assert normal_p(0.5, np.full(5, 0.5)) == 0.0


def test_labels_with_few_positives_are_flagged_and_those_without_left_out() -> None:
    logits, targets = random_case(9, samples=300, labels=3)
    targets[:, 0], targets[:, 1] = np.arange(300) < 29, 0
    few, none, many = label_intervals(logits, targets, list("abc"))
    assert [few.positives, few.few, many.few] == [29, True, False]
    assert [none.interval, none.positives] == [None, 0]
    tested = label_tests(logits + 0.2 * targets, logits, targets, list("abc"))
    assert [tested[1].p, tested[1].p_holm] == [None, None]
    assert tested[0].p_holm == pytest.approx(min(1, tested[0].p * (2 if tested[0].p <= tested[2].p else 1)), rel=1)


def test_a_thousand_resamples_of_voc_size_are_quick() -> None:
    logits, targets = random_case(0, samples=4952, labels=20)
    targets = targets & (np.random.default_rng(0).random(targets.shape) < 0.2)
    begun = time.process_time()
    metric_intervals(logits, targets)
    assert time.process_time() - begun < 5


def test_resnet50_against_resnet18(realdata: Path) -> None:
    _, small = read(realdata / "scores/resnet18_predictions.csv")
    _, large = read(realdata / "scores/resnet50_predictions.csv")
    _, targets = read(realdata / "scores/truth.csv")
    difference = paired_difference(large, small, targets, threshold=0.5)
    assert 100 * difference.value == pytest.approx(3.29, abs=0.01)
    assert 100 * difference.half_width == pytest.approx(0.45, abs=0.04)


@pytest.mark.long
@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_the_interval_of_a_subset_holds_the_value_of_the_whole(realdata: Path, model: str) -> None:
    _, scores = read(realdata / f"scores/{model}_predictions.csv")
    _, targets = read(realdata / "scores/truth.csv")
    whole = Bootstrap(targets, threshold=0.5).score(scores).mAP
    rng = np.random.default_rng(2021)
    held = 0
    for seed in range(200):
        rows = rng.choice(len(targets), 545, replace=False)
        interval = mAP_interval(scores[rows], targets[rows], threshold=0.5, seed=seed)
        held += interval.low <= whole <= interval.high
    assert 0.93 <= held / 200 <= 0.97


def test_candidates_far_behind_are_left_out_of_the_draws_and_change_nothing() -> None:
    logits, targets = random_case(9, samples=150, labels=3)
    rng = np.random.default_rng(2)
    near = [logits + 0.1 * rng.normal(size=logits.shape) for _ in range(3)]
    hopeless = [-logits, rng.normal(size=logits.shape)]
    without = best_of([logits + targets, *near], 1, targets, resamples=300)
    drawn = best_of([logits + targets, *near, *hopeless], 1, targets, resamples=300)
    assert (drawn.chosen, drawn.gain) == (without.chosen, without.gain)
    assert drawn.shares[4:] == (0.0, 0.0)


def test_intervals_of_many_rare_labels_cover_the_mean_of_test_sets_of_this_size() -> None:
    # 60 labels with one to four positives in 200 images: nearly every resample has a higher mAP than its test set.
    rng = np.random.default_rng(0)
    prevalences = rng.uniform(0.006, 0.02, 60)

    def drawn() -> tuple[np.ndarray, np.ndarray]:
        targets = (rng.random((200, 60)) < prevalences).astype(np.int8)
        return rng.standard_normal((200, 60)) + 1.5 * targets, targets

    def mean_ap(scores: np.ndarray, targets: np.ndarray) -> float:
        labels = targets.any(axis=0)
        return float(average_precision_score(targets[:, labels], scores[:, labels], average="macro"))

    expected = np.mean([mean_ap(*drawn()) for _ in range(150)])
    covered = 0
    for _ in range(30):
        interval = mAP_interval(*drawn(), resamples=200)
        assert interval is not None
        assert interval.low < interval.value < interval.high
        covered += interval.low <= expected <= interval.high
    assert covered >= 25  # 28.5 expected; 16 with percentiles that are shifted by the bias
