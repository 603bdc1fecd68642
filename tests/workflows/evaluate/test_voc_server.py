"""The archive for the VOC server: names, lines, order, equal bytes, and a reading back that notices."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlrec.datasets.readers.voc import LABELS
from mlrec.predictions import Predictions
from mlrec.utils.errors import PredictionsError, UsageError
from mlrec.workflows.evaluate.voc_server import write_server_archive

IDS = tuple(f"JPEGImages/2008_00000{k}.jpg" for k in range(4))
PREDICTIONS = Predictions(LABELS, IDS, np.random.default_rng(0).normal(size=(4, 20), scale=30).astype(np.float32))


def test_one_file_per_class_has_the_ranks_of_the_predictions(tmp_path: Path) -> None:
    out = tmp_path / "out.tgz"
    write_server_archive(PREDICTIONS, out, kind="voc2012", split="test")
    with tarfile.open(out) as archive:
        names = archive.getnames()
        assert names == [f"results/VOC2012/Main/comp2_cls_test_{label}.txt" for label in LABELS]
        stream = archive.extractfile(names[3])
        assert stream is not None
        lines = stream.read().decode().splitlines()
    assert [line.split(" ")[0] for line in lines] == [f"2008_00000{k}" for k in range(4)]
    assert np.array_equal([np.float32(line.split(" ")[1]) for line in lines], PREDICTIONS.logits[:, 3])
    again = tmp_path / "again.tar.gz"
    write_server_archive(PREDICTIONS, again, kind="voc2012", split="test")
    assert again.read_bytes() == out.read_bytes()


def test_data_that_the_server_does_not_accept_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="20 classes of VOC"):
        write_server_archive(PREDICTIONS, tmp_path / "out.tgz", kind="coco", split="val")
    few = replace(PREDICTIONS, labels=LABELS[:3], logits=PREDICTIONS.logits[:, :3])
    with pytest.raises(UsageError, match="20 classes of VOC"):
        write_server_archive(few, tmp_path / "out.tgz", kind="voc2012", split="test")
    with pytest.raises(UsageError, match=r"use \.tgz"):
        write_server_archive(PREDICTIONS, tmp_path / "out.zip", kind="voc2012", split="test")
    assert not list(tmp_path.iterdir())


def test_an_archive_that_differs_from_the_predictions_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlrec.workflows.evaluate.voc_server.member", lambda year, split, label: f"{label[0]}.txt")
    with pytest.raises(PredictionsError, match="check the disk"):
        write_server_archive(PREDICTIONS, tmp_path / "out.tgz", kind="voc2012", split="test")
