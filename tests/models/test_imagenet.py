"""Classifiers as published: the classifier at each location is the published one, or the model is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from mlrec.models.imagenet import ImageNetClassifier, imagenet_classifier
from mlrec.utils.errors import ModelError


def made(name: str) -> tuple[ImageNetClassifier, torch.Tensor]:
    torch.manual_seed(0)
    published = imagenet_classifier(name, pretrained=False)
    size = published.data["input_size"][-1]
    return published, torch.randn(2, 3, size, size)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_byobnet", "test_nfnet"])
def test_the_mean_over_locations_is_the_published_logit(name: str) -> None:
    published, images = made(name)
    with torch.inference_mode():
        published.check(images)
        logits, mean, maximum = published.logits(images)
        assert torch.allclose(logits, published.model(images), atol=1e-5)
        assert torch.allclose(mean, logits, atol=1e-4)
        assert bool((maximum >= mean).all())
        features = published.model.forward_features(images)
        classifier = published.model.get_classifier()
    weight, bias = classifier.weight.detach(), classifier.bias.detach()
    expected = np.einsum("bdhw,kd->bkhw", features, weight) + bias.numpy()[:, None, None]
    assert np.allclose(maximum, expected.max((2, 3)), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("test_convnext", "head.norm"), ("test_vit2", "fc_norm"), ("mobilenetv3_small_050", "conv_head, act2")],
)
def test_layers_between_pooling_and_classifier_are_named(name: str, layer: str) -> None:
    published, images = made(name)
    with torch.inference_mode(), pytest.raises(ModelError, match=rf"before the classifier \({layer}"):
        published.check(images)


def test_a_class_token_is_another_classifier_than_its_patches() -> None:
    published, images = made("test_vit")
    assert published.class_token
    with torch.inference_mode():
        published.check(images)
        logits, mean, _ = published.logits(images)
        tokens = published.model.forward_features(images)
        patches = published.model.head(published.model.fc_norm(tokens[:, 1:]))
    assert torch.allclose(logits, published.model(images), atol=1e-5)
    assert torch.allclose(mean, patches.mean(1), atol=1e-5)
    assert not torch.allclose(mean, logits, atol=1e-3)


def test_classes_are_imagenets_and_weights_come_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = timm.create_model("test_resnet", pretrained=False)
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    published = imagenet_classifier("test_resnet", weights=tmp_path / "w.safetensors")
    assert torch.equal(published.model.get_classifier().weight, other.get_classifier().weight)
    assert published.classes[:2] == ("n01440764", "n01443537")
    with pytest.raises(ModelError, match="the same architecture"):
        imagenet_classifier("test_efficientnet", weights=tmp_path / "w.safetensors")
