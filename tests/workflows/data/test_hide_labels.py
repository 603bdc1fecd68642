"""Copies of a split with hidden annotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets.dataset import Dataset
from mlrec.utils.errors import UsageError
from mlrec.workflows.data.hide_labels import hide_labels, kept, one_positive
from tests.workflows.data.test_split import dataset


def test_copies_are_added_and_nothing_else_changes(tmp_path: Path) -> None:
    path = dataset(tmp_path, "train", "test")
    before = {name: (path / f"{name}.jsonl").read_bytes() for name in ("train", "test")}
    hidden = hide_labels(path, keep=[0.1, 0.5], single_positive=True)
    assert {name: (path / f"{name}.jsonl").read_bytes() for name in ("train", "test")} == before
    whole, again = Dataset.load(path).manifest("train"), Dataset.load(path)
    for name, counts in hidden.counts.items():
        part = again.manifest(name)
        assert part.images == whole.images
        known = part.targets != -1
        assert (part.targets[known] == whole.targets[known]).all()
        assert counts == tuple(int((part.targets == value).sum()) for value in (1, 0, -1))
    assert again.info.source["made"] == dict.fromkeys(("train-keep10", "train-keep50", "train-single"), "train")
    first = (path / "train-keep50.jsonl").read_bytes()
    hide_labels(path, keep=[0.5])
    assert (path / "train-keep50.jsonl").read_bytes() == first
    hide_labels(path, keep=[0.5], seed=1)
    assert (path / "train-keep50.jsonl").read_bytes() != first


def test_each_target_is_kept_with_the_share_and_larger_shares_hold_the_smaller() -> None:
    targets = np.random.default_rng(0).choice([1, 0, -1], (4000, 10)).astype(np.int8)
    known = targets != -1
    few, many = kept(targets, 0.2, 7), kept(targets, 0.6, 7)
    for part, share in ((few, 0.2), (many, 0.6)):
        assert (part[known] != -1).mean() == pytest.approx(share, abs=0.015)  # five standard errors
        assert (part[~known] == -1).all()
    assert (many[few != -1] == few[few != -1]).all()


def test_one_positive_of_each_sample_is_kept_each_equally_often() -> None:
    targets = np.tile(np.array([1, 0, 1, 1, -1], np.int8), (6000, 1))
    single = one_positive(targets, 3)
    assert ((single == 1).sum(axis=1) == 1).all()
    assert not (single == 0).any()
    np.testing.assert_allclose((single == 1).mean(axis=0), [1 / 3, 0, 1 / 3, 1 / 3, 0], atol=0.03)
    assert (one_positive(np.zeros((2, 3), np.int8), 0) == -1).all()


def test_shares_and_splits_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = dataset(tmp_path, "train", "test")
    with pytest.raises(UsageError, match=r"--keep-labels must be a fraction between 0 and 1, got 1\.5"):
        hide_labels(path, keep=[1.5])
    with pytest.raises(UsageError, match="the test split cannot be divided"):
        hide_labels(path, keep=[0.5], whole="test")


def test_flags_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    path = dataset(tmp_path, "train", "test")
    result = CliRunner().invoke(app, ["split", str(path), "--single-positive", "--folds", "3"])
    assert isinstance(result.exception, UsageError)
    assert "cannot be used with --folds" in str(result.exception)
