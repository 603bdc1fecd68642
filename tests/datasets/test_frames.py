"""Manifests iterate, and go to pandas and Hugging Face and back without loss."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import datasets as hf
import numpy as np
import pandas as pd
import pytest
from datasets.table import embed_table_storage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlrec import Manifest, MlrecError, Predictions, evaluate
from mlrec.utils.errors import DataError
from tests.metrics.scoring_oracles import random_case

LABELS = ("cat", "dog", "=hen")
TARGETS = np.array([[1, 0, -1], [0, 0, 0], [-1, 1, 1], [1, 1, 0]], np.int8)
COLOURS = ("red", "green", "blue", "white")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    images = ("a.png", "sub/é b.png", "c.png", "d.png")
    (tmp_path / "sub").mkdir()
    for name, color in zip(images, COLOURS, strict=True):
        Image.new("RGB", (8, 6), color).save(tmp_path / name)
    return Manifest("pets", "val", tmp_path, LABELS, images, TARGETS)


@pytest.fixture
def boxed(manifest: Manifest) -> Manifest:
    boxes = np.array([[0, 0, 4, 4], [1, 2, 3.5, 4], [0, 0, 8, 6], [2, 2, 2, 2]], float)
    ids = ("a.png#0", "a.png#1", "c.png#0", "d.png#0")
    return replace(manifest, images=("a.png", "a.png", "c.png", "d.png"), boxes=boxes, sample_ids=ids)


def content(manifest: Manifest) -> list[object]:
    boxes = None if manifest.boxes is None else manifest.boxes.tolist()
    return [
        manifest.split, manifest.root, manifest.labels, list(manifest.images), list(manifest.sample_ids),
        manifest.targets.tolist(), manifest.targets.dtype, boxes, manifest.digest,
    ]  # fmt: skip


def test_a_manifest_is_a_sequence_of_samples(manifest: Manifest, boxed: Manifest) -> None:
    samples = list(manifest)
    assert [sample.id for sample in samples] == list(manifest.sample_ids)
    assert [sample.labels for sample in samples] == [("cat",), (), ("dog", "=hen"), ("cat", "dog")]
    assert [sample.unknown for sample in samples] == [("=hen",), (), ("cat",), ()]
    assert [sample.path for sample in samples] == [manifest.path_of(k) for k in range(4)]
    assert manifest[-1].id == manifest[3].id == "d.png"
    assert manifest[-1].target.tolist() == TARGETS[3].tolist()
    assert content(manifest[1:3]) == content(manifest.subset([1, 2]))
    assert content(manifest[::-2]) == content(manifest.subset([3, 1]))
    for beyond in (4, -5):
        with pytest.raises(IndexError):
            manifest[beyond]
    assert [sample.pixels()[0, 0].tolist() for sample in manifest] == [
        [255, 0, 0], [0, 128, 0], [0, 0, 255], [255, 255, 255],
    ]  # fmt: skip
    assert [sample.pixels().shape for sample in boxed] == [(4, 4, 3), (4, 3, 3), (6, 8, 3), (2, 2, 3)]
    assert boxed[1].box == (1.0, 2.0, 3.5, 4.0)


def test_frames_hold_the_samples_and_pandas_counts_as_expected(manifest: Manifest, boxed: Manifest) -> None:
    frame = manifest.to_frame()
    assert frame.columns.tolist() == ["image", "split", *LABELS]
    assert frame["cat"].sum() == 2
    assert frame["cat"].mean() == pytest.approx(2 / 3), "of the known ones"
    assert frame["cat"].isna().tolist() == [False, False, True, False]
    assert content(Manifest.from_frame(frame, manifest.root, name="pets")) == content(manifest)
    again = Manifest.from_frame(boxed.to_frame(), boxed.root)
    assert content(again) == content(boxed)
    without_ids = boxed.to_frame().reset_index(drop=True)
    assert content(Manifest.from_frame(without_ids, boxed.root)) == content(boxed)
    plain = manifest.to_frame(labels_only=True)
    assert plain.to_numpy().tolist() == TARGETS.tolist()
    assert content(Manifest.from_frame(plain, manifest.root, split="val")) == content(manifest)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from([1, 0, -1]), min_size=2, max_size=2), max_size=5), st.booleans())
def test_any_targets_come_back_from_a_frame(rows: list[list[int]], through_csv: bool) -> None:
    targets = np.array(rows, np.int8).reshape(-1, 2)
    names = tuple(f"{k}.jpg" for k in range(len(rows)))
    manifest = Manifest("n", "all", Path("/r"), ("a", "b"), names, targets)
    frame = manifest.to_frame()
    if through_csv and len(frame):
        from io import StringIO

        frame = pd.read_csv(StringIO(frame.to_csv()))
    assert content(Manifest.from_frame(frame, "/r", split="all" if len(frame) else None)) == content(manifest)


def test_cells_of_any_kind_of_number_are_read() -> None:
    frame = pd.DataFrame({"filename": [Path("/data/x/a.jpg"), "b.jpg", "./c.jpg"]})
    frame["bools"] = [True, False, True]
    frame["floats"] = [1.0, np.nan, -1.0]
    frame["objects"] = pd.Series([1, None, False], dtype=object)
    frame["nullable"] = pd.array([True, pd.NA, False])
    frame["note"] = ["x", "y", "z"]
    frame["split"] = ["train", "val", "train"]
    labels = ["nullable", "bools", "floats", "objects"]
    train = Manifest.from_frame(frame, "/data/x", split="train", labels=labels)
    assert (train.split, train.images, train.labels) == ("train", ("a.jpg", "c.jpg"), tuple(labels))
    assert train.targets.tolist() == [[1, 1, 1, 1], [0, 1, -1, 0]]
    assert Manifest.from_frame(frame, "/data/x", split="val", labels=labels).targets.tolist() == [[-1, 0, -1, -1]]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"cat": ["1", "0"]}, {}, "column 'cat': the values are not numbers; in labels="),
        ({"cat": [2, 0]}, {}, "column 'cat', row '0': 2 is not 1, 0 or -1"),
        ({"cat": [0.5, 0]}, {}, "row '0': 0.5 is not"),
        ({"by": ["me", "you"]}, {}, "column 'by': the values are not numbers; in labels="),
        (
            {"split": ["train", "val"]},
            {},
            r"the data frame has multiple splits \(train, val\); choose one with the 'split' argument",
        ),
        ({"split": ["train", "val"]}, {"split": "test"}, "no split 'test'; choose one of train, val"),
        ({"image": ["a.jpg", "a.jpg"]}, {}, r"multiple rows contain sample 'a\.jpg'; keep only one of them"),
        ({"image": ["../a.jpg", "b.jpg"]}, {}, "is outside the image directory"),
        ({"image": ["/other/a.jpg", "b.jpg"]}, {}, "is not in the folder /data; pass the image folder as root"),
        ({"image": [None, "b.jpg"]}, {}, "is not an image path"),
        ({" cat": [1, 0]}, {}, "two columns contain the targets of label 'cat'"),
        ({}, {"labels": ["cot"]}, "no column 'cot'; did you mean 'cat'"),
    ],
)
def test_what_a_frame_does_not_state_is_an_error(change: dict, options: dict, message: str) -> None:
    frame = pd.DataFrame({"image": ["a.jpg", "b.jpg"], "cat": [1, 0]} | change)
    with pytest.raises(DataError, match=message):
        Manifest.from_frame(frame, "/data", **options)
    rows = pd.DataFrame({"cat": [1, 0]})
    with pytest.raises(DataError, match="0 is not an image path; add an 'image' column"):
        Manifest.from_frame(rows, "/data")


def test_a_label_with_the_name_of_a_column_is_refused(manifest: Manifest) -> None:
    with pytest.raises(DataError, match="label 'split' has the same name as another column"):
        replace(manifest, labels=("cat", "dog", "split")).to_frame()


def test_predictions_and_manifest_are_scored_as_frames(manifest: Manifest) -> None:
    logits, targets = random_case(3, samples=20, labels=3)
    names = tuple(f"{k}.jpg" for k in range(20))
    truth = Manifest("n", "all", Path("/r"), LABELS, names, targets)
    predictions = Predictions(LABELS, names, logits)
    frame = predictions.to_frame()
    assert frame.index.name == "id"
    shuffled = frame.sample(frac=1, random_state=0)[["dog", "=hen", "cat"]]
    assert evaluate(shuffled, truth.to_frame(labels_only=True)) == evaluate(logits, targets, labels=LABELS)
    np.testing.assert_allclose(predictions.to_frame(probabilities=True), 1 / (1 + np.exp(-logits)))


def test_hugging_face_keeps_every_sample(manifest: Manifest, boxed: Manifest, tmp_path: Path) -> None:
    for one in (manifest, boxed):
        dataset = one.to_hf()
        assert isinstance(dataset, hf.Dataset)
        assert dataset.features["labels"].feature.names == list(LABELS)
        assert dataset[0]["image"].size == (8, 6)
        assert dataset[2]["labels"] == [1, 2]
        assert dataset[2]["unknown"] == [0]
        assert str(dataset.split) == "val"
        assert content(Manifest.from_hf(dataset, one.root)) == content(one)
    parquet = tmp_path / "stored.parquet"
    embedded = boxed.to_hf().with_format("arrow").map(embed_table_storage, batched=True)  # as push_to_hub does
    embedded.to_parquet(parquet)
    stored = hf.Dataset.from_parquet(str(parquet), cache_dir=str(tmp_path / "cache"))
    other = Manifest.from_hf(stored, tmp_path / "other", split="val")
    assert content(replace(other, root=boxed.root)) == content(boxed)
    assert other[2].pixels().tolist() == boxed[2].pixels().tolist()
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["a.png", "c.png", "d.png"]
    (tmp_path / "other" / "a.png").write_bytes(b"other")
    with pytest.raises(DataError, match=r"a\.png: the file already exists with different content"):
        Manifest.from_hf(stored, tmp_path / "other")


def test_columns_of_labels_and_faults_of_hugging_face_datasets(manifest: Manifest, monkeypatch) -> None:
    images = [str(sample.path) for sample in manifest]
    columns = {"image": images, "cat": [1, 0, -1, None], "dog": [0, 0, 1, 1]}
    dataset = hf.Dataset.from_dict(columns).cast_column("image", hf.Image())
    read = Manifest.from_hf(dataset, manifest.root, labels=["cat", "dog"], split="val")
    assert read.targets.tolist() == [[1, 0], [0, 0], [-1, 1], [-1, 1]]
    for wrong, options, message in (
        (
            hf.DatasetDict(train=dataset),
            {},
            r"expects one split, not a DatasetDict; select a split, for example dataset\['train'\]",
        ),
        (dataset, {}, r"'labels' is not a Sequence\(ClassLabel\)"),
        (dataset, {"labels": ["cat", "cow"]}, "no column 'cow'"),
        (
            dataset.remove_columns("image"),
            {},
            r"has no image column named 'image'; rename the image column to 'image' \(available columns: cat, dog\)",
        ),
    ):
        with pytest.raises(DataError, match=message):
            Manifest.from_hf(wrong, manifest.root, **options)
    both = manifest.to_hf().map(lambda row: {"unknown": row["labels"]})
    with pytest.raises(DataError, match="row 0: a label is both positive and unknown"):
        Manifest.from_hf(both, manifest.root)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MlrecError, match=r"pip install 'mlrec\[datasets\]'"):
        manifest.to_hf()


def test_only_data_frames_of_pandas_are_read() -> None:
    with pytest.raises(DataError, match=r"expected a pandas\.DataFrame, got list; convert it"):
        Manifest.from_frame([{"image": "a.jpg", "cat": 1}], "photos")  # type: ignore[arg-type]
