"""The folder of a prepared dataset."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mlrec.datasets import dataset as folder
from mlrec.datasets.dataset import Dataset, Info
from mlrec.datasets.manifest import Manifest
from mlrec.utils.errors import DataError


def written(path: Path, name: str = "toy") -> Dataset:
    manifest = Manifest(name, "all", Path("/r"), ("a", "b"), ("1.jpg",), np.array([[1, -1]], dtype=np.int8))
    path.mkdir(parents=True)
    info = Info(name, {"kind": "csv", "path": "/x.csv"}, "paper", ["a", "b"], {"all": 1}, {"bad": 2}, ["a warning"])
    folder.write(path, info, [manifest])
    return Dataset(path, info)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    dataset = written(tmp_path / "toy")
    loaded = Dataset.load(tmp_path / "toy")
    assert loaded.info == dataset.info
    assert loaded.manifest("all").targets.tolist() == [[1, -1]]
    assert sorted(entry.name for entry in (tmp_path / "toy").iterdir()) == ["all.jsonl", "dataset.json"]
    keys = ["name", "source", "recipe", "labels", "splits", "skipped", "warnings"]
    assert list(json.loads((tmp_path / "toy" / "dataset.json").read_text())) == keys


def test_the_latest_is_the_one_prepared_last(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prepared dataset under"):
        Dataset.latest(tmp_path)
    for seconds, name in ((3, "a"), (9, "b"), (5, "c")):
        written(tmp_path / name, name)
        os.utime(tmp_path / name / "dataset.json", (seconds, seconds))
    assert Dataset.latest(tmp_path).info.name == "b"


def test_missing_or_broken_datasets_are_reported_in_one_line(tmp_path: Path) -> None:
    dataset = written(tmp_path / "voc2007")
    with pytest.raises(DataError, match=r"no prepared dataset found; did you mean 'voc2007'\?"):
        Dataset.load(tmp_path / "voc207")
    with pytest.raises(DataError, match="no split 'test'; choose one of all"):
        dataset.manifest("test")
    (tmp_path / "voc2007" / "dataset.json").write_text('{"name": 3}')
    with pytest.raises(DataError, match=r"dataset\.json: .*name.*; remove the folder and prepare it again"):
        Dataset.load(tmp_path / "voc2007")
