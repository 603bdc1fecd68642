"""A model file holds everything its model needs, and refuses to be anything else."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import mlrec
from mlrec.models.checkpoint import load_model, read_metadata, save_model
from mlrec.models.classifier import Classifier
from mlrec.utils.errors import ModelError

LABELS = ("cat", "dog", "naïve label, with comma")
Raw = tuple[dict[str, torch.Tensor], dict[str, Any]]


def small(**options: object) -> Classifier:
    torch.manual_seed(0)
    return mlrec.create_model("test_resnet", 3, heads=4, lam=0.7, img_size=64, labels=LABELS, **options)  # type: ignore[arg-type]


def read(path: Path) -> Raw:
    with safetensors.safe_open(path, "pt") as opened:
        return {key: opened.get_tensor(key) for key in opened.keys()}, json.loads(opened.metadata()["mlrec"])  # noqa: SIM118


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tmp_path / "model.safetensors", small(), {"lr": 0.01, "epochs": 3})
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("head", ["csra", "spatial", "average"])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_same_model_comes_back(tmp_path: Path, head: str, normalize: bool) -> None:
    model = small(head=head, normalize=normalize, head_dropout=0.2).eval()
    save_model(tmp_path / "model.safetensors", model, {})
    again = load_model(tmp_path)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(again(images), model(images))
    assert (again.labels, again.preprocessing) == (LABELS, model.preprocessing)
    assert again.architecture == model.architecture
    assert not again.training
    assert next(again.parameters()).device.type == "cpu"


def test_metadata_is_read_without_the_weights(saved: Path) -> None:
    metadata = read_metadata(saved.parent)
    assert metadata.config == {"lr": 0.01, "epochs": 3}
    assert metadata.labels == LABELS
    assert metadata.architecture.temperatures == (1.0, 2.0, 4.0, math.inf)
    assert metadata.preprocessing.size == 64


def test_a_model_takes_other_sizes_than_its_own(saved: Path) -> None:
    assert load_model(saved)(torch.randn(1, 3, 96, 128)).shape == (1, 3)


def test_equal_models_give_equal_bytes(saved: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again.safetensors", small(), {"lr": 0.01, "epochs": 3})
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda t, m: t["head.weight"].view(-1)[0].add_(1), "SHA-256"),
        (lambda t, m: t["head.weight"].view(-1)[0].fill_(math.nan), "'head.weight' contains NaN"),
        (lambda t, m: t["head.weight"].view(-1)[0].fill_(math.inf), "'head.weight' contains NaN or inf"),
        (lambda t, m: t.pop("head.weight"), "1 missing, 0 unexpected"),
        (lambda t, m: t.update(extra=torch.zeros(1)), "0 missing, 1 unexpected"),
        (
            lambda t, m: t.update({"head.weight": torch.zeros(4, 5, 64)}),
            r"\(4, 5, \d+\), but the model requires \(4, 3, \d+\)",
        ),
        (lambda t, m: m.update(labels=["cat"]), "3 labels, but the file has 1 label name"),
        (lambda t, m: m.update(format="other"), "not an mlrec model file"),
        (lambda t, m: m.update(architecture="{"), "metadata is damaged"),
        (lambda t, m: m.pop("sha256"), "metadata is damaged"),
    ],
)
def test_damage_is_told_in_one_line(saved: Path, damage: object, told: str) -> None:
    tensors, metadata = read(saved)
    damage(tensors, metadata)  # type: ignore[operator]
    safetensors.torch.save_file(tensors, saved, {"mlrec": json.dumps(metadata)})
    with pytest.raises(ModelError, match=told) as failure:
        load_model(saved)
    assert str(saved) in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("cut", [0, 7, 100, 5000])
def test_a_truncated_file_is_told(saved: Path, cut: int) -> None:
    saved.write_bytes(saved.read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load_model(saved)


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model; pass a run folder"):
        load_model(tmp_path)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ModelError, match="an exported ONNX model, which only mlrec predict can run"):
        load_model(tmp_path)


def test_a_pickle_is_pointed_to_import(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="mlrec import"):
        load_model(tmp_path / "model.pt")
