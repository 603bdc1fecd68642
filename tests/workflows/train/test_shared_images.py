"""A split that is scored must hold no image that is trained on: a split of parts may, and is then a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlrec.datasets import dataset as folder
from mlrec.datasets.dataset import Info
from mlrec.datasets.manifest import Manifest
from mlrec.workflows.train.train import resolve_plan
from tests.conftest import Notes

PARTS = {"train": [0, 1, 2, 3], "val": [4, 5], "all": [0, 1, 2, 3, 4, 5], "test": [6, 7]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    targets = np.array([[1, 0], [0, 1]] * 4, np.int8)
    whole = Manifest("d", "w", tmp_path, ("cat", "dog"), tuple(f"{k}.jpg" for k in range(8)), targets)
    made = [whole.subset(rows, name) for name, rows in PARTS.items()]
    sizes = {name: len(rows) for name, rows in PARTS.items()}
    folder.write(tmp_path, Info("d", {"kind": "csv"}, "paper", ["cat", "dog"], sizes), made)
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "shared"),
    [
        ({}, []),
        ({"train_split": "all", "split": "test"}, []),
        ({"train_split": "all", "split": "val"}, [("val", 2, "4.jpg")]),
        ({"train_split": "all", "split": "test", "select_split": "val"}, [("val", 2, "4.jpg")]),
        ({"train_split": "train", "split": "train"}, [("train", 4, "0.jpg")]),
    ],
)
def test_images_that_are_trained_on_and_scored_are_a_warning(
    data: Path, flags: dict[str, Any], shared: list[tuple[str, int, str]], notes: Notes
) -> None:
    resolve_plan({"data": str(data), **flags})
    train = flags.get("train_split", "train")
    assert notes.warnings == [
        f"split '{split}' shares {count} images with the training split '{train}' (first: '{first}'), so the metrics "
        "are likely too high; remove the shared images from one split"
        for split, count, first in shared
    ]
