"""Pointing and mass against slow counts, and against what can be said without counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlrec.metrics.localization import (
    covered,
    effective_locations,
    judge,
    mean_intervals,
    reached,
    softmax,
)

NONE = np.zeros((40, 60), dtype=bool)


def box(top: int, left: int, bottom: int, right: int, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def peak_at(i: int, j: int, grid: tuple[int, int] = (4, 6), height: float = 5.0) -> np.ndarray:
    scores = np.zeros(grid)
    scores[i, j] = height
    return scores


def test_a_peak_on_the_object_is_a_hit_and_one_next_to_it_is_not() -> None:
    thing = box(10, 20, 20, 30)  # just the cell (1, 2) of 10 x 10 pixels
    on, beside = (judge(0, 0, m, m, [thing], NONE) for m in (peak_at(1, 2), peak_at(1, 3)))
    assert (on.hit, beside.hit) == (1.0, 0.0)
    assert on.hit_by_chance == pytest.approx(1 / 24)
    assert on.covered == pytest.approx(100 / 2400)
    assert on.area == pytest.approx(100 / 2400)
    assert on.contributed == 1.0
    assert beside.contributed == 0.0
    assert on.attended == pytest.approx(math.exp(5) / (math.exp(5) + 23))
    assert judge(0, 0, peak_at(1, 3), peak_at(1, 3), [thing], NONE, tolerance=1.5).hit == 1.0


def test_the_middle_of_the_image_is_a_baseline() -> None:
    flat = np.zeros((4, 6))
    assert judge(0, 0, flat, flat, [box(18, 28, 22, 32)], NONE).hit_by_centre == 1.0
    assert judge(0, 0, flat, flat, [box(0, 0, 8, 8)], NONE).hit_by_centre == 0.0


def test_ignored_regions_count_neither_for_nor_against() -> None:
    thing, crowd = box(0, 0, 10, 10), box(20, 20, 40, 60)
    in_crowd = judge(0, 0, peak_at(3, 4), peak_at(3, 4), [thing], crowd)
    assert math.isnan(in_crowd.hit)
    assert in_crowd.hit_by_chance == pytest.approx(1 / 16)  # 24 cells less the crowd's 8
    assert in_crowd.covered == pytest.approx(1 / 16)
    assert math.isnan(in_crowd.contributed)
    overlapped = judge(0, 0, peak_at(0, 0), peak_at(0, 0), [thing], np.ones_like(thing))
    assert overlapped.hit == overlapped.contributed == 1.0


def test_negative_contributions_do_not_count_as_mass() -> None:
    maps = np.full((4, 6), -1.0)
    assert math.isnan(judge(0, 0, maps, maps, [box(0, 0, 10, 10)], NONE).contributed)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    tolerance=st.sampled_from([0.0, 0.5, 1.0, 1.5]),
    seed=st.integers(0, 99),
)
def test_cells_against_a_loop_over_pixels(
    height: int, width: int, grid: tuple[int, int], tolerance: float, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.1
    cover, near = covered(mask, grid), reached(mask, grid, tolerance)
    for i in range(grid[0]):
        for j in range(grid[1]):
            pixels = [
                mask[y, x]
                for y in range(height)
                for x in range(width)
                if (y + 0.5) * grid[0] // height == i and (x + 0.5) * grid[1] // width == j
            ]
            assert cover[i, j] == pytest.approx(np.mean(pixels) if pixels else 0.0)
            distances = [
                max(abs((y + 0.5) * grid[0] / height - i - 0.5), abs((x + 0.5) * grid[1] / width - j - 0.5))
                for y, x in zip(*np.nonzero(mask), strict=True)
            ]
            clearly = min(distances, default=np.inf)
            if clearly < tolerance - 1e-9:
                assert near[i, j]
            elif clearly > max(tolerance, 0.5 * max(grid[0] / height, grid[1] / width)) + 1e-9:
                assert not near[i, j]


def test_cover_adds_up_to_the_area_where_cells_are_equal() -> None:
    mask = np.random.default_rng(0).random((56, 84)) < 0.3
    assert covered(mask, (7, 7)).mean() == pytest.approx(mask.mean())


def test_a_random_peak_hits_as_often_as_chance_says() -> None:
    rng = np.random.default_rng(0)
    thing = box(5, 13, 27, 38)
    drawn = [rng.random((7, 7)) for _ in range(3000)]
    pairs = [judge(0, 0, maps, maps, [thing], NONE) for maps in drawn]
    assert np.mean([pair.hit for pair in pairs]) == pytest.approx(pairs[0].hit_by_chance, abs=0.03)


def test_sharpness_runs_from_a_point_to_an_even_map() -> None:
    assert effective_locations(np.full((3, 4), 1 / 12)) == pytest.approx(12)
    assert effective_locations(np.eye(9)[4].reshape(3, 3)) == pytest.approx(1)
    p = softmax(np.random.default_rng(0).normal(size=(5, 5)), 2.0)
    from scipy.stats import entropy

    assert effective_locations(p) == pytest.approx(np.exp(entropy(p.ravel())))


def test_means_leave_out_what_is_undefined_and_draw_images() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((300, 2))
    values[:, 1] = values[:, 0]
    values[::7, 1] = np.nan
    alone, gaps = mean_intervals(values, list(range(300)))
    assert alone is not None
    assert gaps is not None
    assert gaps.value == pytest.approx(np.nanmean(values[:, 1]))
    assert alone.half_width == pytest.approx(1.96 * values[:, 0].std() / math.sqrt(300), rel=0.1)
    doubled = np.repeat(values[:, :1], 2, axis=0)  # each image twice says no more than once
    again = mean_intervals(doubled, [k // 2 for k in range(600)])[0]
    assert again is not None
    assert again.half_width == pytest.approx(alone.half_width, rel=1e-6)
    assert mean_intervals(np.full((4, 1), np.nan), [0, 1, 2, 3]) == [None]
