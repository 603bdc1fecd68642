"""`Predictions`: stored and read back; other people's files checked before they are believed."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mlrec import Predictions
from mlrec import predictions as module
from mlrec.predictions import logits_of, probabilities_of
from mlrec.utils import large_arrays
from mlrec.utils.errors import PredictionsError

GOOD = {
    "logits": np.array([[1.5, -2.0], [0.25, 3.0]], dtype=np.float32),
    "sample_ids": np.array(["a.jpg", "ü/b.jpg"]),
    "labels": np.array(["cat", "dog"]),
    "targets": np.array([[1, 0], [-1, 1]], dtype=np.int8),
}


def store(path: Path, **changes: object) -> Path:
    np.savez(path, **{name: value for name, value in (GOOD | changes).items() if value is not None})
    return path


def test_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    whole = Predictions(("cat", "dog"), ("a.jpg", "ü/b.jpg"), GOOD["logits"], GOOD["targets"], "abc")
    whole.save(tmp_path / "one.npz")
    by_column = [np.asfortranarray(GOOD[name]) for name in ("logits", "targets")]
    Predictions(whole.labels, whole.sample_ids, by_column[0], by_column[1], "abc").save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    back = Predictions.load(tmp_path / "one.npz")
    assert (back.labels, back.sample_ids, back.digest) == (whole.labels, whole.sample_ids, "abc")
    assert back.logits.dtype == np.float32
    assert back.targets.dtype == np.int8
    np.testing.assert_array_equal(back.logits, whole.logits)
    np.testing.assert_array_equal(back.targets, whole.targets)


def test_lists_and_tensors_are_converted(tmp_path: Path) -> None:
    rows = torch.tensor([[1.5, -2.0], [0.25, 3.0]], dtype=torch.bfloat16, requires_grad=True)
    for logits, targets in ((rows, torch.tensor([[1, 0], [-1, 1]])), (rows.tolist(), [[1, 0], [-1, 1]])):
        predictions = Predictions(["cat", "dog"], ["a.jpg", "ü/b.jpg"], logits, targets)
        assert predictions.to_frame().loc["a.jpg", "dog"] == -2.0
        predictions.save(tmp_path / "p.npz")
        np.testing.assert_array_equal(Predictions.load(tmp_path / "p.npz").logits, GOOD["logits"])
    with pytest.raises(PredictionsError, match="logits cannot be converted to a numeric array"):
        Predictions(["cat", "dog"], ["a.jpg", "b.jpg"], [[1.0, 2.0], [3.0]])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match=r"p\.npz: no such file; check the path"):
        Predictions.load(tmp_path / "p.npz")


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (module, large_arrays):
        monkeypatch.setattr(place, "LARGE", 1)


@pytest.mark.usefixtures("all_are_large")
@pytest.mark.parametrize("samples", [1, 5000])
def test_large_arrays_are_mapped_and_the_same(tmp_path: Path, samples: int) -> None:
    rng = np.random.default_rng(0)
    ids = tuple(f"ü{k}.jpg" for k in range(samples))
    targets = rng.integers(-1, 2, (samples, 3)).astype(np.int8)
    whole = Predictions(("a", "b", "c"), ids, rng.standard_normal((samples, 3)).astype(np.float32), targets, "abc")
    for name in ("one.npz", "two.npz"):
        whole.save(tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    for archive in (np.load(tmp_path / "one.npz"), Predictions.load(tmp_path / "one.npz").__dict__):
        assert list(archive["labels"]) == ["a", "b", "c"]
        assert list(archive["sample_ids"]) == list(ids)
        assert str(archive["digest"]) == "abc"
        np.testing.assert_array_equal(archive["logits"], whole.logits)
        np.testing.assert_array_equal(archive["targets"], targets)
    back = Predictions.load(tmp_path / "one.npz")
    assert isinstance(back.logits, np.memmap)
    assert isinstance(back.targets, np.memmap)
    back.logits[:] = 0  # in memory only
    np.testing.assert_array_equal(Predictions.load(tmp_path / "one.npz").logits, whole.logits)


@pytest.mark.usefixtures("all_are_large")
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_that_numpy_stored_are_mapped(tmp_path: Path, order: str) -> None:
    logits = np.asarray(GOOD["logits"], dtype=np.float64, order=order)
    back = Predictions.load(store(tmp_path / "p.npz", logits=logits))
    assert isinstance(back.logits, np.memmap)
    assert back.sample_ids == ("a.jpg", "ü/b.jpg")
    np.testing.assert_array_equal(back.logits, GOOD["logits"])


@pytest.mark.usefixtures("all_are_large")
def test_damage_of_a_mapped_array_is_found(tmp_path: Path) -> None:
    logits = np.arange(30_000, dtype=np.float32).reshape(-1, 3)
    ids = np.array([f"{k}.jpg" for k in range(len(logits))])
    path = store(tmp_path / "p.npz", logits=logits, sample_ids=ids, targets=None, labels=np.array(["a", "b", "c"]))
    content = path.read_bytes()
    place = content.index(logits[-1].tobytes())
    path.write_bytes(content[:place] + b"\x01" + content[place + 1 :])
    with pytest.raises(PredictionsError, match="bad checksum"):
        Predictions.load(path)


def test_targets_may_be_absent_and_double_precision_is_kept_when_read(tmp_path: Path) -> None:
    back = Predictions.load(store(tmp_path / "p.npz", targets=None, logits=GOOD["logits"].astype(np.float64)))
    assert back.targets is None
    assert back.logits.dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"logits": None}, "no array 'logits'"),
        ({"labels": None}, "no array 'labels'"),
        ({"logits": np.array([["1", "2"], ["3", "4"]])}, "dtype"),
        (
            {"logits": np.zeros((2, 3), dtype=np.float32)},
            "logits have shape (2, 3), but 2 sample ids and 2 labels were passed",
        ),
        ({"logits": np.zeros(4, dtype=np.float32)}, "save a float array of shape (N, C)"),
        (
            {"targets": np.array([[1, 0], [2, 1]])},
            "targets must have the shape of the logits and contain only 1, 0 and -1",
        ),
        ({"targets": np.array([[1, 0]])}, "targets must have the shape of the logits and contain only 1, 0 and -1"),
        ({"sample_ids": np.array(["a.jpg", "a.jpg"])}, "sample id 'a.jpg' is repeated"),
        ({"labels": np.array(["cat", "cat"])}, "label 'cat' is repeated"),
        ({"labels": np.array([0.5, 1.5])}, "save them as text"),
        ({"labels": np.array(["cat", None], dtype=object)}, "'labels' contains Python objects; convert it"),
    ],
)
def test_invalid_predictions_files_are_reported(tmp_path: Path, changes: dict, told: str) -> None:
    with pytest.raises(PredictionsError) as caught:
        Predictions.load(store(tmp_path / "p.npz", **changes))
    assert told in str(caught.value)
    assert "p.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "ids", "told"),
    [
        (("cat", "dog", "cow"), ("a.jpg", "b.jpg"), "2 sample ids and 3 labels"),
        (("cat", "dog"), ("a.jpg", "a.jpg"), "sample id 'a.jpg' is repeated"),
    ],
)
def test_invalid_predictions_cannot_be_created(labels: tuple[str, ...], ids: tuple[str, ...], told: str) -> None:
    with pytest.raises(PredictionsError, match=told):
        Predictions(labels, ids, GOOD["logits"])


def test_a_header_that_promises_more_than_the_file_holds(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)})
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as archive:
        archive.writestr("logits.npy", stream.getvalue())
    with pytest.raises(PredictionsError, match="is shorter than its header states"):
        Predictions.load(tmp_path / "p.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nonsense", b"\x93NUMPY", b"<html>"])
def test_a_file_that_is_not_an_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(PredictionsError, match="not a readable"):
        Predictions.load(tmp_path / "p.npz")


def test_predictions_of_any_size_are_shown_in_one_line() -> None:
    predictions = Predictions(("cat", "dog"), tuple(map(str, range(5000))), np.zeros((5000, 2)))
    assert repr(predictions) == "<Predictions: 5,000 samples, 2 labels>"


def test_logits_and_probabilities() -> None:
    p = np.array([1e-7, 0.01, 0.5, 0.75, 1 - 1e-7])
    assert probabilities_of(logits_of(p)) == pytest.approx(p, abs=1e-15)
    assert logits_of(np.array([0.0, 1.0])) == pytest.approx([-16.1181, 16.1181], abs=1e-4)
    assert logits_of(np.array([0.5]))[0] == 0.0
    assert probabilities_of(np.array([-1000.0, 0.0, 1000.0], dtype=np.float32)).tolist() == [0.0, 0.5, 1.0]
