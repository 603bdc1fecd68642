"""The ranking of doubtful labels, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cleanlab.count import compute_confident_joint
from cleanlab.filter import find_label_issues
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn.functional import binary_cross_entropy_with_logits

from mlrec.metrics.label_errors import hardest, likely_errors, precision_at, to_review


def test_by_hand() -> None:
    logits = np.array([[2.0, -3.0], [-1.0, 0.5]])
    targets = np.array([[1, 0], [1, -1]], dtype=np.int8)
    found = likely_errors(logits, targets)
    assert [(s.sample, s.label, s.given) for s in found] == [(1, 0, 1), (0, 0, 1), (0, 1, 0)]
    assert found[0].probability == pytest.approx(1 / (1 + np.e))
    assert found[0].error_score == pytest.approx(1 - found[0].probability)
    assert found[2].error_score == pytest.approx(found[2].probability)


@given(
    arrays(np.float64, (5, 3), elements=st.floats(-1000, 1000)),
    arrays(np.int8, (5, 3), elements=st.sampled_from([1, 0, -1])),
)
def test_error_scores_decrease_and_unknown_labels_are_never_errors(logits: np.ndarray, targets: np.ndarray) -> None:
    found = likely_errors(logits, targets)
    assert len({(s.sample, s.label) for s in found}) == len(found) == (targets != -1).sum()
    assert all(a.error_score >= b.error_score for a, b in itertools.pairwise(found))
    for suspect in found:
        assert targets[suspect.sample, suspect.label] == suspect.given
        expected = suspect.probability if suspect.given == 0 else 1 - suspect.probability
        assert suspect.error_score == pytest.approx(expected, abs=1e-12)
    assert likely_errors(logits, targets, most=2) == found[:2]


def test_precision_at_k() -> None:
    found = likely_errors(np.array([[3.0, -2.0, 1.0]]), np.array([[0, 0, 0]], dtype=np.int8))
    wrong = np.array([[True, True, False]])
    assert [precision_at(found, wrong, k) for k in (1, 2, 3)] == pytest.approx([1, 1 / 2, 2 / 3])


@given(
    arrays(np.float64, (6, 3), elements=st.floats(-30, 30)),
    arrays(np.int8, (6, 3), elements=st.sampled_from([1, 0, -1])),
)
def test_hardest_is_the_cross_entropy_of_what_is_known(logits: np.ndarray, targets: np.ndarray) -> None:
    loss = binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(targets).double(), reduction="none")
    known = torch.tensor(targets >= 0)
    means = [float(row[k].mean()) for row, k in zip(loss, known, strict=True) if k.any()]
    found = hardest(logits, targets, 6)
    assert sorted(found) == np.flatnonzero(known.any(1)).tolist()
    by_sample = dict(zip(np.flatnonzero(known.any(1)).tolist(), means, strict=True))
    assert [by_sample[k] for k in found] == pytest.approx(sorted(means, reverse=True))
    assert hardest(logits, targets, 2) == found[:2]


def planted(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of a model that is sure of the first label and timid about the second; annotations; which are wrong."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((120, 2)) < [0.4, 0.3]).astype(np.int8)
    logits = rng.normal(size=truth.shape) + np.where(truth == 1, [3.0, -0.5], [-3.0, -4.0])
    wrong = rng.random(truth.shape) < 0.04
    return logits, np.where(wrong, 1 - truth, truth).astype(np.int8), wrong


@pytest.mark.parametrize("seed", range(8))
def test_to_review_is_cleanlabs_confident_learning(seed: int) -> None:
    logits, targets, _ = planted(seed)
    review = to_review(logits, targets)
    for k in range(2):
        p = 1 / (1 + np.exp(-logits[:, k]))
        both, given_ = np.stack([1 - p, p], axis=1), targets[:, k].astype(int)
        theirs = find_label_issues(given_, both, filter_by="confident_learning", n_jobs=1)
        assert review.flags[:, k].tolist() == theirs.tolist()
        joint = compute_confident_joint(given_, both, calibrate=True)
        raw = compute_confident_joint(given_, both, calibrate=False)
        sizes = np.bincount(given_, minlength=2)
        assert review.expected[:, k] == pytest.approx([sizes[s] * raw[s, 1 - s] / raw[s].sum() for s in (0, 1)])
        assert review.expected[:, k] == pytest.approx([joint[0, 1], joint[1, 0]], abs=1)  # rounded by cleanlab


def test_a_timid_model_does_not_accuse_all_positives() -> None:
    logits, targets, wrong = planted(0)
    rng = np.random.default_rng(0)
    half = (targets[:, 1] == 1) & (logits[:, 1] < 0)
    assert half.sum() > 20, "a threshold of 0.5 would list most of the positives"
    review = to_review(logits, targets)
    listed = review.flags[:, 1] & (targets[:, 1] == 1)
    assert wrong[listed, 1].mean() > 0.5 * listed.any()
    assert listed.sum() < half.sum() / 3
    unknown = np.where(rng.random(targets.shape) < 0.2, -1, targets).astype(np.int8)
    assert not to_review(logits, unknown).flags[unknown == -1].any()


def test_what_is_listed_is_the_head_of_the_ranking() -> None:
    logits, targets, _ = planted(1)
    review, found = to_review(logits, targets), likely_errors(logits, targets)
    for label, value in itertools.product((0, 1), (0, 1)):
        flags = [review.flags[s.sample, s.label] for s in found if (s.label, s.given) == (label, value)]
        assert flags == sorted(flags, reverse=True)


@pytest.mark.parametrize("value", [0, 1])
def test_without_both_values_nothing_is_estimated(value: int) -> None:
    review = to_review(np.array([[3.0], [-3.0], [1.0]]), np.array([[value], [value], [-1]], dtype=np.int8))
    assert not review.flags.any()
    assert (review.expected.sum(), review.enough.tolist()) == (0, [False])
