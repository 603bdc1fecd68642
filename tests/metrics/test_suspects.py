"""The ranking of doubtful labels, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn.functional import binary_cross_entropy_with_logits

from mlrec.metrics.suspects import hardest, precision_at, suspects


def test_by_hand() -> None:
    logits = np.array([[2.0, -3.0], [-1.0, 0.5]])
    targets = np.array([[1, 0], [1, -1]], dtype=np.int8)
    found = suspects(logits, targets)
    assert [(s.sample, s.label, s.given) for s in found] == [(1, 0, 1), (0, 0, 1), (0, 1, 0)]
    assert found[0].probability == pytest.approx(1 / (1 + np.e))
    assert found[0].doubt == pytest.approx(1 - found[0].probability)
    assert found[2].doubt == pytest.approx(found[2].probability)


@given(
    arrays(np.float64, (5, 3), elements=st.floats(-1000, 1000)),
    arrays(np.int8, (5, 3), elements=st.sampled_from([1, 0, -1])),
)
def test_doubts_fall_and_unknown_labels_are_nobodys_error(logits: np.ndarray, targets: np.ndarray) -> None:
    found = suspects(logits, targets)
    assert len({(s.sample, s.label) for s in found}) == len(found) == (targets != -1).sum()
    assert all(a.doubt >= b.doubt for a, b in itertools.pairwise(found))
    for suspect in found:
        assert targets[suspect.sample, suspect.label] == suspect.given
        expected = suspect.probability if suspect.given == 0 else 1 - suspect.probability
        assert suspect.doubt == pytest.approx(expected, abs=1e-12)
    assert suspects(logits, targets, most=2) == found[:2]


def test_precision_at_k() -> None:
    found = suspects(np.array([[3.0, -2.0, 1.0]]), np.array([[0, 0, 0]], dtype=np.int8))
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
