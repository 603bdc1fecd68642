"""`mlrec compare`: differences of two models, and when they are not significant."""

from __future__ import annotations

import numpy as np
import pytest

from mlrec.metrics.bootstrap import paired_differences, paired_seeds
from mlrec.metrics.evaluate import evaluate
from mlrec.run_folders import directory
from mlrec.utils.errors import PredictionsError
from mlrec.workflows.report.compare import compare_runs
from tests.reports.builders import LABELS, write_run

RNG = np.random.default_rng(7)
TARGETS = (RNG.random((300, 4)) < 0.3).astype(np.int8)
NOISE = RNG.normal(size=TARGETS.shape)
GOOD, POOR = 3.0 * TARGETS + NOISE - 1, 1.0 * TARGETS + NOISE - 1


def run(tmp_path, name, logits, **options):
    return write_run(tmp_path, name, logits=logits, targets=options.pop("targets", TARGETS), **options)


def cells(table, row, key):
    return table.rows[row].cells[[column.key for column in table.columns].index(key)]


def test_a_clear_difference_is_reported_with_its_interval(tmp_path):
    a, b = run(tmp_path, "a", GOOD), run(tmp_path, "b", POOR)
    metrics, labels = compare_runs([a], [b])
    assert "A is higher, 95% interval" in metrics.title
    truth = evaluate(GOOD.astype(np.float32), TARGETS).mAP - evaluate(POOR.astype(np.float32), TARGETS).mAP
    assert cells(metrics, 0, "difference") == pytest.approx(truth)
    expected = paired_differences(GOOD.astype(np.float32), POOR.astype(np.float32), TARGETS)["mAP"]
    assert cells(metrics, 0, "low") == pytest.approx(expected.low)
    assert cells(metrics, 0, "finding") == "A higher"
    assert [row.cells[0] for row in labels.rows] == list(LABELS)
    assert all(cells(labels, k, "p_holm") >= cells(labels, k, "p") for k in range(4))
    assert {cells(labels, k, "finding") for k in range(4)} == {"A higher"}
    assert any("n = 1 and 1 run: the intervals describe these trained models" in note for note in metrics.footnotes)


def test_two_evaluations_of_the_same_models_have_the_same_seeds(tmp_path):
    """With seeds drawn apart, the spread between the runs would hide what test-time augmentation adds to each."""
    logits = [GOOD.astype(np.float32), POOR.astype(np.float32)]
    plain = [run(tmp_path, f"seed{k}", values) for k, values in enumerate(logits)]
    views = [values + 0.3 * TARGETS.astype(np.float32) for values in logits]
    for folder, values in zip(plain, views, strict=True):
        written = run(tmp_path / "elsewhere", folder.name, values)
        (folder / "eval-tta").mkdir()
        (written / directory.PREDICTIONS).rename(folder / "eval-tta" / directory.PREDICTIONS)
    metrics, _ = compare_runs([folder / "eval-tta" for folder in plain], plain)
    expected = paired_seeds(views, logits, TARGETS)
    assert cells(metrics, 0, "low") == pytest.approx(expected.low)
    assert cells(metrics, 0, "high") == pytest.approx(expected.high)
    assert any("the same models" in note for note in metrics.footnotes)
    assert cells(metrics, 0, "finding") == "A higher"
    swapped, _ = compare_runs([folder / "eval-tta" for folder in plain], plain[::-1])
    assert cells(swapped, 0, "high") - cells(swapped, 0, "low") > 2 * (expected.high - expected.low)


def test_equal_models_are_not_distinguishable_and_the_sign_follows_the_order(tmp_path):
    a, b = run(tmp_path, "a", POOR), run(tmp_path, "b", POOR + 0.01 * RNG.normal(size=POOR.shape))
    metrics, labels = compare_runs([a], [b])
    assert "not distinguishable" in metrics.title
    assert {cells(labels, k, "finding") for k in range(4)} == {"not distinguishable"}
    forth, back = compare_runs([run(tmp_path, "c", GOOD)], [b])[0], compare_runs([b], [tmp_path / "c"])[0]
    assert cells(forth, 0, "difference") == -cells(back, 0, "difference")


def test_samples_and_labels_in_another_order_are_joined_by_name(tmp_path):
    a = run(tmp_path, "a", GOOD)
    order, columns = RNG.permutation(300), [2, 0, 3, 1]
    b = run(
        tmp_path, "b", POOR[order][:, columns], targets=TARGETS[order][:, columns],
        labels=tuple(LABELS[c] for c in columns), sample_ids=tuple(f"{k:06d}.jpg" for k in order),
    )  # fmt: skip
    plain = run(tmp_path, "plain", POOR)
    assert cells(compare_runs([a], [b])[0], 0, "difference") == cells(compare_runs([a], [plain])[0], 0, "difference")


def test_with_several_seeds_the_intervals_are_about_the_method(tmp_path):
    a = [run(tmp_path, f"a{k}", GOOD + RNG.normal(size=GOOD.shape)) for k in range(3)]
    b = [run(tmp_path, f"b{k}", POOR + RNG.normal(size=POOR.shape)) for k in range(3)]
    metrics, _ = compare_runs(a, b)
    assert any("n = 3 and 3 runs: both seeds and images are resampled" in note for note in metrics.footnotes)
    single, _ = compare_runs(a[:1], b[:1])
    assert cells(metrics, 0, "low") > 0
    assert cells(single, 0, "low") != cells(metrics, 0, "low")


def test_persons_of_one_image_are_resampled_together(tmp_path):
    ids = tuple(f"p{k // 10}.jpg#{k % 10}" for k in range(300))
    a, b = run(tmp_path, "a", GOOD, sample_ids=ids), run(tmp_path, "b", POOR, sample_ids=ids)
    metrics, _ = compare_runs([a], [b])
    assert any("30 images (300 samples)" in note for note in metrics.footnotes)


def test_what_cannot_be_paired_is_refused(tmp_path):
    a = run(tmp_path, "a", GOOD)
    part = write_run(tmp_path, "part", logits=POOR[:200], targets=TARGETS[:200])
    with pytest.raises(PredictionsError, match=r"no prediction for 100 of 300 samples \(first: '000200\.jpg'\)"):
        compare_runs([a], [part])
    other = run(tmp_path, "other", POOR, targets=1 - TARGETS)
    with pytest.raises(PredictionsError, match="the targets differ"):
        compare_runs([a], [other])
    with pytest.raises(PredictionsError, match="no label 'dgo'"):
        compare_runs([a], [a], labels=["dgo"])


def test_a_run_that_is_named_twice_is_refused(tmp_path):
    a, b = (write_run(tmp_path, name) for name in "ab")
    with pytest.raises(PredictionsError, match="a: the run is listed twice for one method"):
        compare_runs([a, a], [b])


def test_files_of_predictions_are_compared_like_runs(tmp_path):
    a, b = run(tmp_path, "a", GOOD), run(tmp_path, "b", POOR)
    by_file = compare_runs([a / directory.PREDICTIONS], [b / directory.PREDICTIONS])[0]
    assert [row.cells for row in by_file.rows] == [row.cells for row in compare_runs([a], [b])[0].rows]


def test_third_party_scores_are_compared_with_true_labels(tmp_path):
    probabilities = [1 / (1 + np.exp(-logits)) for logits in (GOOD, POOR)]
    files = [tmp_path / "good.csv", tmp_path / "poor.csv", tmp_path / "truth.csv"]
    for file, rows in zip(files, [*probabilities, TARGETS], strict=True):
        lines = [f"{k:06d}.jpg," + ",".join(repr(value) for value in row) for k, row in enumerate(rows.tolist())]
        file.write_text("\n".join(["filename," + ",".join(LABELS), *lines]) + "\n")
    by_file = compare_runs(files[:1], files[1:2], truth=files[2])[0]
    by_run = compare_runs([run(tmp_path, "a", GOOD)], [run(tmp_path, "b", POOR)])[0]
    for ours, theirs in zip(by_file.rows, by_run.rows, strict=True):
        assert ours.cells[1:-1] == pytest.approx(theirs.cells[1:-1])
    with pytest.raises(PredictionsError, match="pass the ground truth with --truth"):
        compare_runs(files[:1], files[1:2])


def test_the_difference_of_a_public_pair_of_models_equals_an_independent_measurement(realdata):
    scores = realdata / "scores"
    metrics, _ = compare_runs(
        [scores / "resnet50_predictions.csv"], [scores / "resnet18_predictions.csv"], truth=scores / "truth.csv",
        resamples=400,
    )  # fmt: skip
    assert 100 * cells(metrics, 0, "difference") == pytest.approx(3.29, abs=0.01)
    half = (cells(metrics, 0, "high") - cells(metrics, 0, "low")) / 2
    assert 100 * half == pytest.approx(0.45, abs=0.07)
    assert (cells(metrics, 0, "a"), cells(metrics, 0, "b")) == (
        pytest.approx(0.8774, abs=1e-4),
        pytest.approx(0.8446, abs=1e-4),
    )
