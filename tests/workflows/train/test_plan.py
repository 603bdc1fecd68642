"""What a training plan fills in, refuses and reports: dataset, splits, recipe, labels that cannot be learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlrec.datasets import dataset as folder
from mlrec.datasets.dataset import Info
from mlrec.datasets.manifest import Manifest
from mlrec.utils.errors import DataError
from mlrec.workflows.train.train import resolve_plan
from tests.conftest import Notes
from tests.tiny import make_tiny


def test_what_was_left_unsaid_is_filled_in_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    make_tiny(tmp_path)
    monkeypatch.chdir(tmp_path)
    plan = resolve_plan({})
    assert (plan.config.data, plan.config.train_split, plan.config.split) == ("data/tiny", "train", "val")
    assert plan.resolved.recipe == "paper"
    assert plan.paper
    assert [line.partition(":")[0] for line in notes.lines] == ["data", "recipe", "splits"]


@pytest.mark.parametrize(
    ("splits", "flags", "expected"),
    [
        (("train", "val", "trainval", "test"), {}, ("trainval", "test")),
        (("train", "val"), {}, ("train", "val")),
        (("train", "val", "test"), {}, ("train", "val")),
        (("train", "test"), {}, ("train", "test")),
        (("train", "val", "trainval", "blind"), {}, ("train", "val")),
        (("all", "val"), {"train_split": "all"}, ("all", "val")),
        (("a", "b"), {"split": "b"}, ("a", "b")),
        (("a", "b"), {"train_split": "b", "split": "a"}, ("b", "a")),
    ],
)
def test_splits(splits: tuple[str, ...], flags: dict[str, Any], expected: tuple[str, str], tmp_path: Path) -> None:
    dataset(tmp_path, splits)
    plan = resolve_plan({"data": str(tmp_path), **flags})
    assert (plan.train.split, plan.scored.split) == expected


def dataset(path: Path, splits: tuple[str, ...], source: str = "csv") -> None:
    targets = np.eye(2, dtype=np.int8)
    made = [
        Manifest(
            "d",
            name,
            path,
            ("a", "b"),
            (f"{name}1.jpg", f"{name}2.jpg"),
            -np.ones_like(targets) if name == "blind" else targets,
        )
        for name in splits
    ]
    folder.write(path, Info("d", {"kind": source}, "paper", ["a", "b"], dict.fromkeys(splits, 2)), made)


def test_labels_that_cannot_be_learned_or_scored_are_named(tmp_path: Path, notes: Notes) -> None:
    """Each column is one kind of gap, or none."""
    parts = {
        "train": [[0, 1, 1, 1], [0, 1, -1, 0]],
        "val": [[1, 1, 0, 0], [0, 0, 0, 1]],
        "select": [[1, 1, 1, 1], [0, 0, 0, 1]],
    }
    labels = ("none", "always", "known", "fine")
    made = [
        Manifest("d", name, tmp_path, labels, (f"{name}1.jpg", f"{name}2.jpg"), np.array(rows, np.int8))
        for name, rows in parts.items()
    ]
    folder.write(tmp_path, Info("d", {"kind": "csv"}, "paper", list(labels), dict.fromkeys(parts, 2)), made)
    resolve_plan({"data": str(tmp_path), "select_split": "select"})
    unlearned, unscored = "so a model trained on this split cannot learn them", "so the AP of these labels is undefined"
    assert [line for line in notes.lines if line.startswith("split '")] == [
        f"split 'train' has no positives for 1 of 4 labels, {unlearned}: none",
        f"split 'train' has no known negatives for 2 of 4 labels, {unlearned}: always, known; "
        "positive in every sample: always",
        f"split 'val' has no positives for 1 of 4 labels, {unscored}: known",
        f"split 'select' has no known negatives for 1 of 4 labels, {unscored}: fine; positive in every sample: fine",
    ]


def test_one_split_alone_says_how_to_get_two(tmp_path: Path) -> None:
    dataset(tmp_path, ("all",))
    with pytest.raises(DataError, match="mlrec split"):
        resolve_plan({"data": str(tmp_path)})
    with pytest.raises(DataError, match="no split 'tset'"):
        resolve_plan({"data": str(tmp_path), "split": "tset"})


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        (("all",), "the only split is all; divide it with mlrec split"),
        (("train", "val"), r"no labeled split to score \(val has 2 samples and no positive label\); check"),
        (("train", "blind"), "cannot choose the training and evaluation splits from train, blind"),
        (("train", "test"), r"no labeled split to score \(test has 2 samples, all labels unknown"),
    ],
)
def test_why_no_two_splits_do_is_named(splits: tuple[str, ...], told: str, tmp_path: Path) -> None:
    blank = {"val": 0, "test": -1}
    targets = [np.full((2, 2), blank[name], np.int8) if name in blank else np.eye(2, dtype=np.int8) for name in splits]
    made = [
        Manifest("d", name, tmp_path, ("a", "b"), (f"{name}1.jpg", f"{name}2.jpg"), own)
        for name, own in zip(splits, targets, strict=True)
    ]
    folder.write(tmp_path, Info("d", {"kind": "csv"}, "paper", ["a", "b"], dict.fromkeys(splits, 2)), made)
    with pytest.raises(DataError, match=told):
        resolve_plan({"data": str(tmp_path)})


def test_the_recipe_follows_the_data_set_and_flags_and_files_win(tmp_path: Path) -> None:
    dataset(tmp_path, ("trainval", "test"), source="wider")
    plan = resolve_plan({"data": str(tmp_path)})
    assert (plan.config.batch_size, plan.config.img_size, plan.config.head_lr_mult) == (64, 224, 10)
    file = tmp_path / "my.toml"
    file.write_text('base = "paper-code"\nimg_size = 96\nbatch_size = 8\n')
    plan = resolve_plan({"data": str(tmp_path), "batch_size": 4}, file=file)
    assert (plan.config.batch_size, plan.config.img_size, plan.config.normalization) == (4, 96, "half")
    assert plan.resolved.sources["img_size"] == str(file)
    assert plan.resolved.recipe == "paper-code"
