"""Counts, shifts and co-occurrence against hand counts and brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlrec.datasets.analysis import statistics
from mlrec.datasets.dataset import label_gaps
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.evaluate import undefined_labels

LABELS = ("cat", "dog", "person")


def manifest(
    targets: list[list[int]] | np.ndarray, split: str = "train", first: int = 0, images: int | None = None
) -> Manifest:
    rows = np.array(targets, dtype=np.int8).reshape(-1, 3)
    ids = tuple(f"{k}.jpg" for k in range(first, first + len(rows)))
    return Manifest("x", split, Path("/x"), LABELS, ids, rows)


def test_one_split_is_counted() -> None:
    found = statistics.describe(manifest([[1, 0, -1], [1, 1, 0], [0, 0, 0]]))
    assert (found.images, found.samples) == (3, 3)
    assert (found.positives, found.negatives, found.unknown) == ((2, 1, 0), (1, 2, 2), (0, 0, 1))
    assert found.histogram == (1, 1, 1)
    assert found.labels_per_sample == 1.0
    assert [found.prevalence(k) for k in range(3)] == [2 / 3, 1 / 3, 0.0]


def test_a_label_without_known_samples_has_no_prevalence() -> None:
    assert statistics.describe(manifest([[-1, 0, 0]])).prevalence(0) is None


def test_a_shift_is_found_and_chance_is_not() -> None:
    same = np.tile([[1, 0, 0], [0, 1, 0]], (500, 1))
    moved = np.tile([[1, 0, 0], [1, 1, 0]], (500, 1))
    train, test = (statistics.describe(manifest(t, s)) for t, s in ((same, "train"), (moved, "test")))
    (shift,) = statistics.shifts(train, test)
    assert (shift.label, shift.first, shift.second) == ("cat", 0.5, 1.0)
    # two-proportion z-test by hand: 500/1000 against 1000/1000
    assert shift.z == pytest.approx(0.5 / np.sqrt(0.75 * 0.25 * 2 / 1000))
    assert statistics.shifts(train, train) == []


def test_random_splits_show_a_shift_in_about_one_set_of_twenty() -> None:
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(200):
        targets = (rng.random((600, 3)) < [0.1, 0.3, 0.5]).astype(np.int8)
        train, test = statistics.describe(manifest(targets[:400])), statistics.describe(manifest(targets[400:]))
        seen += bool(statistics.shifts(train, test))
    assert 2 <= seen <= 20


@given(arrays(np.int8, (7, 3), elements=st.sampled_from([1, 0, -1])))
def test_cooccurrence_and_implications_are_those_of_brute_force(targets: np.ndarray) -> None:
    together, apart = statistics.cooccurrence([manifest(targets)])
    for a in range(3):
        for b in range(3):
            assert together[a, b] == sum(row[a] == 1 and row[b] == 1 for row in targets)
            assert apart[a, b] == sum(row[a] == 1 and row[b] == 0 for row in targets)
    told = {(i.label, i.other, i.count) for i in statistics.implications(LABELS, together, apart, least=2)}
    expected = set()
    for b in range(3):
        for a in range(3):
            both = sum(row[b] == 1 and row[a] == 1 for row in targets)
            if a != b and both >= 2 and not any(row[b] == 1 and row[a] == 0 for row in targets):
                expected.add((LABELS[b], LABELS[a], both))
    assert told == expected


def test_splits_that_hold_one_another_are_compared_and_counted_once() -> None:
    rows = [[1, 1, 0]] * 3 + [[0, 0, 1]] * 2
    splits = [
        manifest(rows[:3], "train"),
        manifest(rows[3:], "val", first=3),
        manifest(rows, "trainval"),
        manifest([[1, 0, 0]], "test", first=5),
    ]
    assert [m.split for m in statistics.independent(splits)] == ["trainval", "test"]
    assert [m.split for m in statistics.independent(splits[:2])] == ["train", "val"]
    together, _ = statistics.cooccurrence(splits)
    assert together[0].tolist() == [4, 3, 0]


def test_rare_labels_and_sizes() -> None:
    found = statistics.describe(manifest([[1, 0, 0], [1, 1, 0]]))
    assert statistics.rare(found, 2) == {"dog": 1, "person": 0}
    assert statistics.sizes([]) is None
    sizes = statistics.sizes([1.0, 2.0, 3.0, 4.0, 5.0])
    assert sizes == statistics.Sizes(5, (1, 2, 3, 4, 5))


@given(arrays(np.int8, st.tuples(st.integers(0, 4), st.just(3)), elements=st.integers(-1, 1)))
def test_gaps_are_those_counted_by_hand(targets: np.ndarray) -> None:
    gaps = label_gaps(manifest(targets))
    known = [{int(value) for value in column if value != -1} for column in targets.T]
    if not any(known):
        assert (gaps.no_positive, gaps.no_negative, gaps.always, gaps.lines()) == ((), (), (), [])
        return
    assert gaps.no_positive == tuple(name for name, values in zip(LABELS, known, strict=True) if 1 not in values)
    assert gaps.no_negative == tuple(name for name, values in zip(LABELS, known, strict=True) if values == {1})
    assert gaps.always == tuple(name for name, column in zip(LABELS, targets.T, strict=True) if (column == 1).all())


def test_gaps_are_reported_with_count_and_names() -> None:
    assert label_gaps(manifest([[1, 0, 1], [1, 0, -1]])).lines() == [
        "split 'train' has no positives for 1 of 3 labels, so the AP of these labels is undefined: dog",
        "split 'train' has no known negatives for 2 of 3 labels, so the AP of these labels is undefined: "
        "cat, person; positive in every sample: cat",
    ]


def test_positives_of_a_sample_in_two_splits_count_once() -> None:
    counts = statistics.positive_counts([manifest([[1, 0, 1], [1, 0, -1]]), manifest([[1, 0, 1]], "trainval")])
    assert counts.tolist() == [2, 0, 1]


def test_one_label_is_counted_in_the_singular() -> None:
    one = Manifest("x", "train", Path("/x"), ("cat",), ("a.jpg", "b.jpg"), np.ones((2, 1), np.int8))
    (line,) = label_gaps(one).lines()
    assert "for 1 of 1 label, so" in line
    (reason,) = undefined_labels(one.targets, one.labels)
    assert reason.startswith("no AP for 1 of 1 label (")
