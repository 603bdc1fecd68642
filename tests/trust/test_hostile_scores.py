"""Scores, manifests and configurations with one thing wrong: one line that names it."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlrec.config_layers import read_toml, resolve
from mlrec.datasets.manifest import Manifest
from mlrec.utils.errors import ConfigError, DataError, PredictionsError
from mlrec.workflows.evaluate.score import score
from tests.trust import trees

GOOD: dict[str, Any] = {
    "logits": np.array([[2.0, -1], [0.5, 1]], np.float32), "targets": np.array([[1, 0], [0, 1]], np.int8),
    "sample_ids": np.array(["img0.jpg", "img1.jpg"]), "labels": np.array(["cat", "dog"]),
}  # fmt: skip
NAN, INF = np.float32("nan"), np.float32("inf")


def arrays(**changed: Any) -> dict[str, Any]:
    return {key: value for key, value in (GOOD | changed).items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"logits": None}, "logits"),
        ({"labels": None}, "labels"),
        ({"sample_ids": None}, "sample_ids"),
        ({"logits": np.array([[NAN, 1], [1, 1]], np.float32)}, "img0.jpg"),
        ({"logits": np.array([[1, 1], [1, -INF]], np.float32)}, "dog"),
        ({"logits": np.zeros((2, 2), np.int64)}, "int64"),
        ({"logits": np.zeros((2, 2), np.complex64)}, "complex64"),
        ({"logits": np.zeros((2, 2), bool)}, "bool"),
        ({"logits": np.zeros((4,), np.float32)}, "(4,)"),
        ({"logits": np.zeros((2, 2, 1), np.float32)}, "(2, 2, 1)"),
        ({"logits": np.zeros((3, 2), np.float32)}, "logits have shape (3, 2), but 2 sample ids"),
        ({"logits": np.array([["a", "b"], ["c", "d"]])}, "logits"),
        ({"targets": np.array([[1, 0], [2, 1]], np.int8)}, "targets"),
        ({"targets": np.array([[1, 0], [NAN, 1]], np.float32)}, "targets"),
        ({"targets": np.zeros((2, 3), np.int8)}, "targets"),
        ({"targets": None}, "no targets"),
        ({"labels": np.array(["cat", "cat"])}, "cat"),
        ({"labels": np.array([b"cat", b"dog"])}, "label"),
        ({"sample_ids": np.array(["img0.jpg", "img0.jpg"])}, "img0.jpg"),
        ({"sample_ids": np.array([0.5, 1.5])}, "sample id"),
    ],
)
def test_predictions_with_one_thing_wrong(changed: dict[str, Any], named: str, tmp_path: Path) -> None:
    file = tmp_path / "p.npz"
    np.savez(file, **arrays(**changed))
    with pytest.raises(PredictionsError) as caught:
        score(file)
    assert named in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_equal_scores_in_half_precision_are_read_as_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **arrays(logits=GOOD["logits"].astype(np.float16)))
    assert score(tmp_path / "p.npz").mAP == 1.0


def member(name: str, content: bytes) -> bytes:
    """An archive with one member."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


FLOATS = "{{'descr': '<f4', 'fortran_order': False, 'shape': ({},)}}"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK", b"\x80\x04K\x01.", b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1\n",
        member("logits.npy", b""),
        member("logits.npy", header("{'descr': '<f4', 'fortran_order': False, 'shape': (10**9, 10**9)}")),
        member("logits.npy", header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 5)}")),
        member("logits.npy", header("__import__('os').system('touch owned')")),
        member("logits.npy", header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}") + b"\x80\x04K\x01."),
        member("logits.npy", header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,)}") + bytes(10)),
        member("../../logits.npy", bytes(100)),
        member("logits", bytes(20_000_000)),
    ],
)  # fmt: skip
def test_archives_that_are_no_predictions(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(PredictionsError, match=r"p\.npz"):
        score(tmp_path / "p.npz")
    assert not Path("owned").exists()


def test_an_archive_that_unpacks_without_measure_is_refused_before_it_is_read(tmp_path: Path) -> None:
    bomb = member("logits.npy", header(FLOATS.format(75_000_000)) + bytes(300_000_000))
    (tmp_path / "p.npz").write_bytes(bomb)
    with pytest.raises(PredictionsError, match=r"p\.npz: the uncompressed size of 300,"):
        score(tmp_path / "p.npz")


def test_what_else_lies_in_an_archive_is_left_alone_and_an_array_stands_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **GOOD, other=np.array([object()]))
    assert score(tmp_path / "p.npz").mAP == 1.0
    with zipfile.ZipFile(tmp_path / "p.npz", "a") as archive:
        archive.writestr("logits", archive.read("logits.npy"))
    with pytest.raises(PredictionsError, match="'logits' is repeated"):
        score(tmp_path / "p.npz")


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_a_pipe_is_not_waited_for(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"p{suffix}")
    with pytest.raises(PredictionsError, match="not a regular file"):
        score(tmp_path / f"p{suffix}")


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("img0.jpg,0.5\n", "line 2"),
        ("img0.jpg,0.5,0.5\n", "img1.jpg"),
        ("img0.jpg,nan,0.5\nimg1.jpg,0,1\n", "img0.jpg"),
        ("img0.jpg,inf,0.5\nimg1.jpg,0,1\n", "img0.jpg"),
        ("img0.jpg,1e999,0.5\nimg1.jpg,0,1\n", "img0.jpg"),
        ("img0.jpg,,0.5\nimg1.jpg,0,1\n", "line 2"),
        ("img0.jpg,50%,0.5\nimg1.jpg,0,1\n", "50%"),
        ("img0.jpg,1_0,0.5\nimg1.jpg,0,1\n", "1_0"),
        ("img0.jpg,0x1,0.5\nimg1.jpg,0,1\n", "0x1"),
        ("img0.jpg,0,1\nimg1.jpg,0,1\nimg1.jpg,0,1\n", "img1.jpg"),
        ("img0.jpg,0,1\nIMG1.jpg,0,1\n", "IMG1.jpg"),
        (",0,1\nimg1.jpg,0,1\n", "line 2"),
    ],
)
def test_a_score_file_with_one_thing_wrong(rows: str, named: str, tmp_path: Path) -> None:
    trees.write(tmp_path / "t.csv", "filename,cat,dog\nimg0.jpg,1,0\nimg1.jpg,0,1\n")
    trees.write(tmp_path / "p.csv", f"filename,cat,dog\n{rows}")
    with pytest.raises(PredictionsError) as caught:
        score(tmp_path / "p.csv", tmp_path / "t.csv")
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("lr = 0.1\nlr = 0.2\n", "line 2"),
        ("lr = true\n", "lr"),
        ("epochs = 3.0\n", "epochs"),
        ("epochs = 0\n", "epochs"),
        ("epochs = 99999999999999999999999\n", "epochs"),
        ("lr = inf\n", "lr"),
        ("lr = -0.1\n", "lr"),
        ("lr = []\n", "lr"),
        ("head = 'csar'\n", "csra"),
        ("batch_size = true\n", "batch_size"),
        ("img_size = 100000\n", "img_size"),
        ("img_size = 0\n", "img_size"),
        ("temperatures = [1, nan]\n", "temperatures"),
        ("temperatures = []\n", "temperatures"),
        ("heads = 0\n", "heads"),
        ("scale = [0.5]\n", "scale"),
        ("scale = [0.9, 0.1]\n", "scale"),
        ("seed = -1\n", "seed"),
        ("num_heads = 2\n", "heads"),
        ("[training]\nlr = 0.1\n", "training"),
        ("lr = '0.1'\n", "lr"),
        ("lr = 1979-05-27\n", "lr"),
        ("a" * 4000 + " = 1\n", "unknown"),
        ("\x1b[31m = 1\n", "c.toml"),
        ("'\\u001b[31m' = 1\n", "unknown"),
        ("lr = 0.1\x00\n", "c.toml"),
        ("x = " + "[" * 5000 + "]" * 5000, "c.toml"),
        ("= 1\n", "line 1"),
        ("lr = " + "9" * 4400 + "\n", "too long"),
        ("lr." + ".".join("a" * 2000) + " = 1\n", "a table"),
        (".".join("a" * 5000) + " = 1\n", "too long"),
        ("lr = 0.1\n" * 20_000, "too long"),
        ("lr = 0.1\nlr = 0.2", "lr = 0.2"),
        ("heads = 100000\n", "heads"),
        ("device = 'tpu'\n", "auto, cpu, cuda"),
        ("backbone = ''\n", "name of a timm model"),
        ("backbone = 'hf-hub:a/b'\n", "name of a timm model"),
        ("ratio = [2.0, 1.0]\n", "c.toml: ratio"),
        ("heads = 2\ntemperatures = [1.0]\n", "c.toml: heads"),
        ("batch_size = 16\naccum = 3\n", "c.toml: batch_size"),
        ("lr = [" + "nan," * 1000 + "]\n", "not a finite number"),
        ("[data]\ncoco = 1\n", "coco"),
    ],
)
def test_a_configuration_with_one_thing_wrong(text: str, named: str, tmp_path: Path) -> None:
    trees.write(tmp_path / "c.toml", text)
    with pytest.raises(ConfigError) as caught:
        resolve(("c.toml", read_toml(tmp_path / "c.toml")))
    assert named in str(caught.value)
    assert "".join(str(caught.value).splitlines()).isprintable()
    assert len(str(caught.value)) < 2000


LINES: list[dict[str, Any]] = [
    {"format": "mlrec-manifest/1", "name": "x", "split": "test", "root": "/data", "labels": ["cat", "dog"]},
    {"image": "a.jpg", "positive": ["cat"]},
    {"image": "b.jpg", "positive": [], "unknown": ["dog"]},
]


def header_of(**values: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda lines: lines[0].update(values)


def line_of(**values: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda lines: lines[1].update(values)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (header_of(format="mlrec-manifest/2"), "mlrec-manifest/1"), (header_of(labels=["cat", "cat"]), "cat"),
        (header_of(labels="cat"), "line 1"), (header_of(root=None), "line 1"), (header_of(extra=1), "extra"),
        (line_of(positive=["dgo"]), "did you mean 'dog'"), (line_of(positive=["cat"], unknown=["cat"]), "both"),
        (line_of(image="b.jpg"), "on multiple"), (line_of(box=[1, 2, 3]), "line 2"), (line_of(box=[1, 2, 3, 4]), "box"),
        (line_of(box=[1, 2, None, 4]), "line 2"), (line_of(image=7), "line 2"), (line_of(positive=None), "line 2"),
        (line_of(image="../../etc/passwd"), "passwd"), (line_of(image="/etc/passwd"), "passwd"),
        (line_of(image="a\nb.jpg"), "control"), (line_of(image=""), "line 2"),
    ],
)  # fmt: skip
def test_a_manifest_with_one_thing_wrong(
    edit: Callable[[list[dict[str, Any]]], None], named: str, tmp_path: Path
) -> None:
    lines = json.loads(json.dumps(LINES))
    edit(lines)
    trees.write(tmp_path / "test.jsonl", "\n".join(map(json.dumps, lines)) + "\n")
    with pytest.raises(DataError) as caught:
        Manifest.load(tmp_path / "test.jsonl")
    assert named in str(caught.value)
    assert "".join(str(caught.value).splitlines()).isprintable()
