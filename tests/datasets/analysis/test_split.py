"""Stratified splits: groups whole, prevalences kept, far better than chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iterstrat.ml_stratifiers import IterativeStratification

from mlrec.datasets.analysis import split
from mlrec.datasets.analysis.groups import connected, joined, numbered
from mlrec.datasets.analysis.split import prevalence_error, random_parts, stratified
from mlrec.datasets.analysis.stratification import iterative
from mlrec.datasets.manifest_storage import SparseTargets
from mlrec.datasets.readers.csv_labels import read_csv_labels
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.utils.errors import UsageError, ValidationReport


def labels(samples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    targets = (rng.random((samples, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.4]).astype(np.int8)
    targets[rng.random((samples, 6)) < 0.1] = -1
    return targets


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), samples=st.integers(1, 80), columns=st.integers(1, 8), parts=st.integers(2, 5))
def test_every_choice_and_draw_is_the_library_s(seed: int, samples: int, columns: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    held = rng.random((samples, columns)) < rng.random(columns) / 2
    shares = rng.dirichlet(np.ones(parts)) if seed % 2 else np.full(parts, 1 / parts)
    ours, library = np.random.RandomState(seed), np.random.RandomState(seed)
    labelled = SparseTargets.of(held.astype(np.int8))
    assert np.array_equal(iterative(labelled, shares, ours), IterativeStratification(held, shares, library))
    assert ours.randint(2**30) == library.randint(2**30)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), most=st.integers(1, 12), folds=st.integers(2, 5))
def test_groups_stay_whole_and_every_sample_has_a_part(seed: int, most: int, folds: int) -> None:
    targets = labels(120, seed)
    groups = numbered(np.random.default_rng(seed).integers(0, 120 // most + folds, 120).tolist())
    part = stratified(targets, groups, [1 / folds] * folds, seed)
    assert set(part) <= set(range(folds))
    for group in range(groups.max() + 1):
        assert len(set(part[groups == group])) == 1


def test_only_the_seed_decides() -> None:
    targets, groups = labels(200, 0), np.arange(200)
    first, again, other = (stratified(targets, groups, [0.8, 0.2], seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_shares_are_kept() -> None:
    part = stratified(labels(1000, 0), np.arange(1000), [0.7, 0.2, 0.1], 0)
    assert np.bincount(part) / 1000 == pytest.approx([0.7, 0.2, 0.1], abs=0.01)


def test_unknown_labels_are_spread_as_well() -> None:
    targets = np.zeros((400, 2), dtype=np.int8)
    targets[:100, 0] = -1
    part = stratified(targets, np.arange(400), [0.75, 0.25], 0)
    assert (targets[part == 1, 0] == -1).sum() == 25


def test_labels_without_known_samples_are_harmless() -> None:
    assert set(stratified(np.full((10, 2), -1, np.int8), np.arange(10), [0.5, 0.5], 0)) == {0, 1}
    assert set(stratified(np.zeros((10, 2), np.int8), np.arange(10), [0.5, 0.5], 0)) == {0, 1}


def test_more_parts_than_groups_are_refused() -> None:
    with pytest.raises(UsageError, match="2 sample groups cannot be divided into 3 parts"):
        stratified(labels(4, 0), np.array([0, 0, 1, 1]), [0.5, 0.3, 0.2], 0)


def test_prevalence_error_by_hand() -> None:
    targets = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], dtype=np.int8)
    # chosen: prevalences 1 and 0; all: 1/2 and 1/4
    assert prevalence_error(targets, np.array([True, True, False, False])) == pytest.approx((0.5 + 0.25) / 2)
    assert prevalence_error(targets, np.ones(4, bool)) == 0


@pytest.mark.parametrize("name", ["coco2014_train_8208", "voc2007_trainval"])
@pytest.mark.parametrize("grouped", [False, True])
def test_real_labels_are_split_five_times_closer_than_at_random(realdata: Path, name: str, grouped: bool) -> None:
    path = realdata / f"labels/{name}_labels.csv"
    targets = read_csv_labels(path, ReadOptions(), ValidationReport()).manifests[0].targets
    samples = len(targets)
    groups = (
        numbered(np.random.default_rng(0).integers(0, samples // 3, samples).tolist())
        if grouped
        else np.arange(samples)
    )
    errors = [prevalence_error(targets, stratified(targets, groups, [0.8, 0.2], seed) == 1) for seed in range(3)]
    chance = [prevalence_error(targets, random_parts(groups, [0.8, 0.2], seed) == 1) for seed in range(20)]
    assert np.median(chance) / np.median(errors) >= 5


def test_random_parts_keep_groups_and_shares() -> None:
    groups = np.repeat(np.arange(250), 4)
    part = random_parts(groups, [0.6, 0.4], 0)
    assert np.bincount(part) / 1000 == pytest.approx([0.6, 0.4], abs=0.01)
    assert (part.reshape(250, 4) == part.reshape(250, 4)[:, :1]).all()


def test_groups() -> None:
    assert numbered(["b", "a", "b"]).tolist() == [0, 1, 0]
    assert connected(5, [(0, 1), (3, 1)]).tolist() == [0, 0, 1, 0, 2]
    assert joined([np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])]).tolist() == [0, 0, 0, 1]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), parts=st.integers(2, 3))
def test_no_move_and_no_exchange_of_groups_would_improve_a_split(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    counts = np.concatenate([rng.integers(0, 3, (14, 4)), rng.integers(1, 4, (14, 1))], axis=1)
    shares = np.full(parts, 1 / parts)

    def distance(part: np.ndarray) -> float:
        have = np.stack([counts[part == k].sum(axis=0) for k in range(parts)])
        want, total = np.outer(shares, counts.sum(axis=0)), np.maximum(counts.sum(axis=0), 1)
        return float(((have - want) ** 2 / total).sum())

    first = rng.integers(0, parts, 14)
    group, column = np.nonzero(counts)
    cells = np.repeat(group * counts.shape[1] + column, counts[group, column])
    part = split._improved(split.GroupCounts.of(counts.shape, cells), first, shares)
    best = distance(part)
    assert best <= distance(first)
    others = []
    for g in range(14):
        for goal in range(parts):
            others.append(np.where(np.arange(14) == g, goal, part))
        for h in range(g):
            swapped = part.copy()
            swapped[[g, h]] = part[[h, g]]
            others.append(swapped)
    assert min(map(distance, others)) >= best - 2.1 * split.LEAST_GAIN
