"""`create_model`: what it passes on, what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

import mlrec
from mlrec.models.preprocessing import NORMALIZATIONS, Preprocessing
from mlrec.utils.errors import ModelError


def test_forward_is_the_head_of_the_backbone() -> None:
    model = mlrec.create_model("test_vit", 4, heads=2, lam=0.3).eval()
    images = torch.randn(2, 3, 160, 160)
    assert torch.equal(model(images), model.head(model.backbone(images)))
    assert model.labels == ("0", "1", "2", "3")


def test_options_reach_head_and_backbone() -> None:
    model = mlrec.create_model(
        "test_resnet", 4, lam=0.3, normalize=False, temperatures=[2.0, math.inf], img_size=96, head_dropout=0.25
    )
    head = model.head
    assert isinstance(head, mlrec.CSRA)
    assert (head.temperatures, head.lam, head.normalize, head.dropout.p) == ((2.0, math.inf), 0.3, False, 0.25)
    assert (model.architecture.heads, model.preprocessing.size, model.backbone.grid) == (2, 96, (3, 3))


def test_heads_and_temperatures_must_agree() -> None:
    with pytest.raises(ModelError, match="heads = 4, but the number of temperatures is 2"):
        mlrec.create_model("test_resnet", 4, heads=4, temperatures=[1.0, 2.0])


def test_label_names_must_be_as_many_as_labels_and_differ() -> None:
    with pytest.raises(ModelError, match="2 label names for num_labels = 3"):
        mlrec.create_model("test_resnet", 3, labels=["a", "b"])
    with pytest.raises(ModelError, match="label 'a' is listed twice"):
        mlrec.create_model("test_resnet", 3, labels=["a", "b", "a"])


def test_trains_one_step_end_to_end() -> None:
    torch.manual_seed(0)
    model = mlrec.create_model("test_resnet", 3, heads=2, img_size=64).train()
    before = model.head.weight.detach().clone()  # type: ignore[union-attr]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(torch.randn(4, 3, 64, 64)), torch.ones(4, 3))
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert not torch.equal(before, model.head.weight)  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_preprocessing_survives_plain_values(name: str) -> None:
    preprocessing = Preprocessing(448).normalized(name)
    assert preprocessing.mean == NORMALIZATIONS[name][0]
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    assert preprocessing.normalized("weights") is preprocessing


def test_the_head_is_computed_in_float32_under_autocast() -> None:
    model = mlrec.create_model("test_resnet", 3, heads=2, lam=0.5)
    images = torch.rand(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        logits, features = model(images), model.backbone(images)
    assert (logits.dtype, features.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(logits, model.head(features.float()))
