"""Sparse targets against the dense ones, and that large data never become dense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlrec.datasets import manifest_storage
from mlrec.datasets.analysis import statistics, stratification
from mlrec.datasets.analysis.split import prevalence_error, stratified
from mlrec.datasets.dataset import label_gaps
from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest
from mlrec.datasets.manifest_storage import SparseTargets, joined
from mlrec.utils import ragged

DENSE = arrays(np.int8, st.tuples(st.integers(0, 9), st.integers(1, 6)), elements=st.sampled_from([1, 0, -1]))


@settings(deadline=None)
@given(DENSE, st.randoms(use_true_random=False))
def test_every_question_has_the_answer_of_the_dense_targets(dense: np.ndarray, random: object) -> None:
    sparse = SparseTargets.of(dense)
    assert sparse.shape == dense.shape
    assert np.array_equal(sparse.dense(), dense)
    for value in (POSITIVE, NEGATIVE, UNKNOWN):
        assert np.array_equal(sparse.counts(value), (dense == value).sum(axis=0))
    for value in (POSITIVE, UNKNOWN):
        assert np.array_equal(sparse.per_sample(value), (dense == value).sum(axis=1))
    rng = np.random.default_rng(random.randrange(1000))
    columns = rng.permutation(dense.shape[1])[: rng.integers(1, dense.shape[1] + 1)]
    assert np.array_equal(sparse.choose(columns).dense(), dense[:, columns])
    rows = rng.integers(0, max(len(dense), 1), 7 if len(dense) else 0)
    assert np.array_equal(sparse.rows(rows), dense[rows])
    assert np.array_equal(joined([sparse, sparse.take(rows)]).dense(), np.concatenate([dense, dense[rows]]))


def test_columns_beyond_two_bytes() -> None:
    dense = np.zeros((2, 40_000), dtype=np.int8)
    dense[0, [3, 32_768]], dense[1, 39_999] = 1, -1
    sparse = SparseTargets.of(dense)
    assert sparse.codes.tolist() == [3, 32_768, -40_000]
    assert np.array_equal(sparse.dense(), dense)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = np.random.default_rng(0).integers(-1, 2, (23, 5)).astype(np.int8)
    monkeypatch.setattr(manifest_storage, "CELLS", 15)
    monkeypatch.setattr(ragged, "BLOCK", 4)
    sparse = SparseTargets.of(dense)
    assert np.array_equal(sparse.take(np.arange(22, -1, -1)).dense(), dense[::-1])
    assert np.array_equal(next(iter(sparse.blocks(4)))[1], np.nonzero(dense[:4])[0])


def many_labels(samples: int, labels: int, seed: int = 0) -> Manifest:
    """Five of many labels per sample."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.sort(rng.choice(labels, 5, replace=False)) for _ in range(samples)])
    targets = SparseTargets(codes.astype(np.int16), ragged.offsets_of(np.full(samples, 5)), labels)
    names = tuple(f"label{k}" for k in range(labels))
    return Manifest.of_sparse("many", "all", Path("/x"), names, tuple(f"{k}.jpg" for k in range(samples)), targets)


def test_nothing_of_the_size_samples_times_labels_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifest = many_labels(400, 1200)

    def refused(*_: object) -> None:
        raise AssertionError("dense")

    monkeypatch.setattr(SparseTargets, "dense", refused)
    monkeypatch.setattr(statistics.SparseRows, "dense", refused)
    assert repr(manifest) == "<Manifest many/all: 400 samples, 1,200 labels>"
    statistics.describe(manifest)
    label_gaps(manifest)
    together, _ = statistics.cooccurrence([manifest, manifest.subset(np.arange(9), "part")])
    assert together.sum() == 400 * 25
    part = stratified(manifest.sparse_targets, np.arange(400), [0.8, 0.2], 0)
    prevalence_error(manifest.sparse_targets, part == 1)
    parts = manifest.subset(np.flatnonzero(part == 1), "val").with_labels(manifest.labels[::-1])
    parts.save(tmp_path / "val.jsonl")
    assert len(Manifest.load(tmp_path / "val.jsonl").digest) == 64


@pytest.mark.parametrize("labels", [50, 200])
def test_the_stratification_takes_each_sample_once(monkeypatch: pytest.MonkeyPatch, labels: int) -> None:
    taken = []

    def counted(values: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        taken.append(len(rows))
        return ragged.taken(values, offsets, rows)

    targets = many_labels(300, labels).sparse_targets
    monkeypatch.setattr(stratification, "ragged", type("R", (), {"taken": counted, "offsets_of": ragged.offsets_of}))
    stratification.iterative(targets, np.array([0.7, 0.3]), np.random.RandomState(0))
    assert sum(taken) == 300
    assert len(taken) <= labels


@settings(deadline=None)
@given(seed=st.integers(0, 1000), cost=st.sampled_from([0, 10**9]))
def test_both_ways_to_count_pairs_agree(seed: int, cost: int) -> None:
    dense = np.random.default_rng(seed).integers(-1, 2, (12, 7)).astype(np.int8)
    names = tuple("abcdefg")
    manifest = Manifest("x", "all", Path("/x"), names, tuple(f"{k}" for k in range(12)), dense)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "PAIR_COST", cost)
        together, apart = statistics.cooccurrence([manifest])
    positive, negative = (dense == 1).astype(int), (dense == 0).astype(int)
    assert np.array_equal(together, positive.T @ positive)
    assert np.array_equal(apart, positive.T @ negative)
