"""Hard samples and doubtful labels, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlrec.reports.examples import disagreements, hardest

LABELS = ("dog", "cat")
LOGITS = np.array([[4.0, -4.0], [-4.0, -4.0], [0.0, 0.0], [5.0, 9.0]], dtype=np.float32)
TARGETS = np.array([[1, 0], [1, 0], [1, -1], [0, -1]], dtype=np.int8)


def test_the_hardest_samples_come_first_with_their_worst_labels():
    found = hardest(LOGITS, TARGETS, LABELS, 3)
    assert [example.sample for example in found] == [3, 1, 2]
    assert found[0].loss == pytest.approx(math.log(1 + math.exp(5)))
    assert found[1].loss == pytest.approx((math.log(1 + math.exp(4)) + math.log(1 + math.exp(-4))) / 2)
    assert found[0].labels == (("dog", 0, pytest.approx(1 / (1 + math.exp(-5)))),), "an unknown label is no fault"
    assert [name for name, _, _ in found[1].labels] == ["dog", "cat"]


def test_disagreements_are_sure_models_against_the_annotation():
    found = disagreements(LOGITS, TARGETS, LABELS)
    assert {label: [example.sample for example in examples] for label, examples in found.items()} == {"dog": [3, 1]}
    assert disagreements(LOGITS, TARGETS, LABELS, 1)["dog"][0].sample == 3


def test_samples_of_which_nothing_is_known_are_not_hard():
    assert hardest(LOGITS, np.full_like(TARGETS, -1), LABELS) == []
    assert disagreements(LOGITS, np.full_like(TARGETS, -1), LABELS) == {}
