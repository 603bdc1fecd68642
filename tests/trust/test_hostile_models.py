"""Weights with one thing wrong: a tensor of a foreign checkpoint, or what a model file says about itself."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from mlrec.models.checkpoint import load_model, save_model
from mlrec.models.classifier import create_model
from mlrec.models.weights import read_tensors
from mlrec.utils.errors import ModelError
from mlrec.workflows.deploy.import_checkpoint import import_checkpoint

KEY = "blocks.0.attn.qkv.weight"
Change = Callable[[Tensor], Any]


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return dict(timm.create_model("test_vit", num_classes=3).state_dict())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t * float("nan"), "NaN"),
        (lambda t: t.half() * 1e9, "infinite"),
        (lambda t: t.to(torch.complex64), "complex64"),
        (lambda t: t > 0, "bool"),
        (lambda t: t.long(), "int64"),
        (lambda t: t.to_sparse(), "sparse"),
        (lambda t: t.to("meta"), "no values"),
        (lambda t: torch.tensor(1.0), "shape ()"),
        (lambda t: torch.zeros(1).expand(t.shape), "requires"),
        (lambda t: torch.zeros(1).expand(10**6, 10**6), "requires"),
        (lambda t: t[:-1], "shape"),
        (lambda t: t.to(torch.float8_e4m3fn), "float8"),
        (lambda t: t.reshape(*[1] * 100, *t.shape), "shape"),
        (lambda t: None, "1 missing"),
        (lambda t: "text", "1 missing"),
    ],
)
def test_a_tensor_that_is_wrong(change: Change, named: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**weights, KEY: change(weights[KEY])}, tmp_path / "model.pt")
    with pytest.raises(ModelError) as caught:
        import_checkpoint(tmp_path / "model.pt", out=tmp_path / "out", backbone="test_vit")
    assert named in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_tensors_that_share_their_numbers_without_end(tmp_path: Path) -> None:
    shared = torch.zeros(1000)
    torch.save({f"k{k}": shared for k in range(1000)}, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="require 4,000,000 bytes, but only 4,000 bytes are stored"):
        import_checkpoint(tmp_path / "model.pt", out=tmp_path / "out", backbone="test_vit")


def test_a_shape_beyond_what_torch_counts(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelError, match=r"cannot (be )?read"):
        import_checkpoint(tmp_path / "m.safetensors", out=tmp_path / "out", backbone="test_vit")


def packed(path: Path) -> None:
    """A checkpoint packed so that it unpacks to a hundred times its size."""
    torch.save({"weight": torch.zeros(1_000_000)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def without_directory(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"XX\x01\x02"))


@pytest.mark.parametrize(
    ("spoil", "named"), [(packed, "the unpacked size of 4,0"), (without_directory, "damaged archive")]
)
def test_an_archive_that_is_wrong(spoil: Callable[[Path], None], named: str, tmp_path: Path) -> None:
    spoil(tmp_path / "model.pt")
    with pytest.raises(ModelError, match=named):
        read_tensors(tmp_path / "model.pt")


def test_a_head_for_nothing(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(weights | {"head.weight": torch.zeros(0, 64), "head.bias": torch.zeros(0)}, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"model\.pt: the head has no label"):
        import_checkpoint(tmp_path / "model.pt", out=tmp_path / "out", backbone="test_vit")


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_are_taken(kind: torch.dtype, weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({**weights, KEY: weights[KEY].to(kind)}, tmp_path / "model.pt")
    import_checkpoint(tmp_path / "model.pt", out=tmp_path / "out", backbone="test_vit")
    torch.testing.assert_close(
        load_model(tmp_path / "out").state_dict()[f"backbone.timm_model.{KEY}"], weights[KEY].to(kind).float()
    )


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("own") / "model.safetensors"
    save_model(path, create_model("test_vit", 3, heads=2, img_size=32, labels=("a", "b", "c")), {})
    return path.read_bytes()


@pytest.mark.parametrize(
    "changed",
    [
        {"img_size": 10**12}, {"img_size": 20_000}, {"img_size": 0}, {"img_size": "32"}, {"heads": 0}, {"heads": 10**9},
        {"temperatures": ["nan", "1"]}, {"temperatures": []}, {"lam": "0.1"}, {"lam": float("nan")}, {"head": "x"},
        {"head": "gcn", "word_dim": 10**9}, {"head_dropout": 7}, {"logit_scale": float("inf")}, {"backbone": 7},
        {"backbone": "nothing"}, {"backbone": "hf-hub:evil/model"}, {"backbone": "local-dir:/tmp"}, {"num_labels": 4},
        {"evil": 1}, {"labels": ["a", "a", "c"]}, {"labels": [1, 2, 3]}, {"labels": "abc"}, {"labels": None},
        {"sha256": "0"}, {"config": 7}, {"preprocessing": {}}, {"architecture": []}, {"format": "mlrec-model/9"},
    ],
)  # fmt: skip
def test_a_description_that_is_wrong(changed: dict[str, Any], model_file: bytes, tmp_path: Path) -> None:
    (size,) = struct.unpack("<Q", model_file[:8])
    header = json.loads(model_file[8 : 8 + size])
    told = json.loads(header["__metadata__"]["mlrec"])
    for key, value in changed.items():
        (told if key in told else told["architecture"])[key] = value
    header["__metadata__"]["mlrec"] = json.dumps(told)
    text = json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + model_file[8 + size :])
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "m.safetensors")
    assert "".join(str(caught.value).splitlines()).isprintable()
