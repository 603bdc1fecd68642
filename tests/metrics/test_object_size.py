"""AP by size and number of objects, against strata made by hand."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mlrec.datasets.object_sizes import AP_SIZES
from mlrec.datasets.objects import Objects
from mlrec.metrics.object_size import MANY, NUMBERS, Extents, ap_by_size, extents


def objects(*found: tuple[int, float, bool, bool], size: tuple[int, int] | None = (10, 10)) -> Objects:
    """Objects as (label, area, crowd, difficult)."""
    labels, areas, crowd, difficult = zip(*found, strict=True) if found else ((), (), (), ())
    number = len(found)
    return Objects(
        np.arange(number), np.array(labels, dtype=np.intp), np.zeros((number, 4)), np.array(areas, dtype=np.float64),
        np.array(crowd, dtype=np.bool_), np.array(difficult, dtype=np.bool_), size, (msgspec.Raw(b"null"),) * number,
    )  # fmt: skip


def test_the_largest_object_counts_difficult_ones_do_not_and_crowds_are_many() -> None:
    images = [
        objects((0, 2.0, False, False), (0, 30.0, False, False), (1, 50.0, False, True)),
        objects((1, 40.0, True, False)),
        objects((1, 5.0, False, False), size=None),
        objects(),
    ]
    found = extents(images, ["a", "b"]).columns(["b", "a"])
    assert np.array_equal(found.number, [[0, 2], [MANY, 0], [1, 0], [0, 0]])
    assert found.share[0, 1] == 0.3
    assert np.isnan(np.delete(found.share.ravel(), 1)).all()


def test_strata_take_their_own_positives_and_all_negatives() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((200, 2)) < 0.4).astype(np.int8)
    share = np.where(targets == 1, rng.random((200, 2)) ** 3, np.nan)
    number = np.where(targets == 1, rng.integers(1, 8, (200, 2)), 0)
    first, second = (rng.normal(size=(200, 2)) + targets for _ in range(2))
    strata = ap_by_size([first, second], targets, Extents(("a", "b"), share, number), resamples=50)
    assert [s.name for s in strata] == [name for name, _, _ in (*AP_SIZES, *NUMBERS)]
    assert sum(s.pairs for s in strata if s.kind == "size") == (targets == 1).sum()
    assert sum(s.pairs for s in strata if s.kind == "number") == (targets == 1).sum()
    low, high = AP_SIZES[1][1:]
    expected = []
    for c in range(2):
        kept = (targets[:, c] == 0) | ((share[:, c] >= low) & (share[:, c] < high))
        expected.append(average_precision_score(targets[kept, c], first[kept, c]))
    assert strata[1].mAP[0] == pytest.approx(np.mean(expected))
    gain = strata[1].gains[0]
    assert gain is not None
    assert gain.value == pytest.approx((strata[1].mAP[1] or 0) - (strata[1].mAP[0] or 0))


def test_a_stratum_without_positives_is_undefined() -> None:
    targets = np.array([[1], [0]], dtype=np.int8)
    found = Extents(("a",), np.array([[0.5], [np.nan]]), np.array([[1], [0]]))
    strata = ap_by_size([np.array([[1.0], [0.0]])], targets, found, resamples=0)
    assert [s.mAP[0] for s in strata] == [None, None, None, 1.0, 1.0, None, None]


def test_a_method_of_several_seeds_is_their_mean() -> None:
    rng = np.random.default_rng(1)
    targets = (rng.random((80, 2)) < 0.5).astype(np.int8)
    found = Extents(("a", "b"), np.where(targets == 1, 0.5, np.nan), targets.astype(np.int64))
    base, *runs = (rng.normal(size=(80, 2)) + targets for _ in range(4))
    alone = [ap_by_size([base, run], targets, found, resamples=50)[3] for run in runs]
    together = ap_by_size([base, runs], targets, found, resamples=50)[3]
    assert together.mAP == pytest.approx((alone[0].mAP[0], np.mean([s.mAP[1] for s in alone])))
    assert together.gains[0] is not None
    assert together.gains[0].seeds == (3, 1)
