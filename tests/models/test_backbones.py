"""Every layout timm has, as one map: values against timm's own intermediates, never against our own reshaping."""

from __future__ import annotations

import time

import pytest
import timm
import torch
from torch import Tensor

from mlrec.models import hub
from mlrec.models.backbones import Backbone, paper_weights
from mlrec.utils.errors import ModelError

# name, input size, d, side of the map
MAPS = [
    ("resnet18", 64, 512, 2),
    pytest.param("resnet50d", 64, 2048, 2, marks=pytest.mark.long),
    ("regnety_002", 64, 368, 2),
    ("mobilenetv2_100", 64, 1280, 2),
    ("efficientnet_b0", 64, 1280, 2),
    ("tf_efficientnet_lite0", 64, 1280, 2),
    pytest.param("densenet121", 64, 1024, 2, marks=pytest.mark.long),
    ("convnext_atto", 64, 320, 2),
    ("test_mambaout", 160, 64, 5),
    ("swin_tiny_patch4_window7_224", 224, 768, 7),
    ("vit_tiny_patch16_224", 224, 192, 14),
    pytest.param("vit_tiny_patch16_224", 448, 192, 28, marks=pytest.mark.long),
    ("deit_tiny_distilled_patch16_224", 224, 192, 14),
    pytest.param("vit_dpwee_patch16_reg1_gap_256", 256, 256, 16, marks=pytest.mark.long),
    pytest.param("hiera_tiny_224", 224, 768, 7, marks=pytest.mark.long),
    pytest.param("mvitv2_tiny", 224, 768, 7, marks=pytest.mark.long),
    pytest.param("xcit_nano_12_p8_224", 224, 128, 28, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("name", "size", "channels", "side"), MAPS)
def test_map_of(name: str, size: int, channels: int, side: int) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name, size).eval()
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        features = backbone(images)
        expected = reference(backbone, images)
    assert features.shape == (1, channels, side, side)
    assert (backbone.num_features, backbone.grid) == (channels, (side, side))
    assert backbone.name.startswith(f"{name}.") or backbone.name == name
    assert torch.isfinite(features).all()
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def reference(backbone: Backbone, images: Tensor) -> Tensor:
    """The map by timm's `forward_intermediates`, and its own head, pooling one location at a time, where it norms."""
    model = backbone.timm_model
    norms_itself = type(model).__name__ not in ("Hiera", "MambaOut")
    expected = model.forward_intermediates(
        images, indices=1, norm=norms_itself, output_fmt="NCHW", intermediates_only=True
    )[-1]
    if expected.shape[1] != backbone.num_features:  # taken before the last convolution
        expected = model.forward_features(images)
    if type(model).__name__ not in ("ConvNeXt", "MambaOut", "Hiera", "VisionTransformer"):
        return expected
    return normed_by_own_head(backbone, expected)


def normed_by_own_head(backbone: Backbone, features: Tensor) -> Tensor:
    rows = []
    for y in range(features.shape[2]):
        for x in range(features.shape[3]):
            location = features[:, :, y, x]
            if isinstance(backbone.timm_model, timm.models.ConvNeXt):
                rows.append(backbone.timm_model.forward_head(location[..., None, None], pre_logits=True))
            elif type(backbone.timm_model).__name__ == "MambaOut":
                rows.append(backbone.timm_model.head.norm(location))
            elif type(backbone.timm_model).__name__ == "Hiera":
                rows.append(backbone.timm_model.forward_head(location[:, None], pre_logits=True))
            else:
                rows.append(backbone.timm_model.fc_norm(location))
    return torch.stack(rows, dim=-1).reshape(features.shape)


def test_a_norm_inside_the_classifier_is_left_alone_and_a_class_token_of_any_name_is_dropped() -> None:
    for name, size, side in (("inception_next_atto", 64, 2), ("coat_lite_tiny", 224, 7)):
        backbone, images = Backbone(name, size).eval(), torch.randn(1, 3, size, size)
        with torch.no_grad():
            features, output = backbone(images), backbone.timm_model.forward_features(images)
        assert backbone.grid == (side, side)
        assert torch.equal(features, output if output.ndim == 4 else output[:, 1:].mT.unflatten(2, (side, side)))


def test_parameters_that_the_map_does_not_depend_on_are_frozen() -> None:
    frozen = [name for name, p in Backbone("mobilenetv3_small_050", 64).named_parameters() if not p.requires_grad]
    assert frozen == ["timm_model.conv_head.weight", "timm_model.conv_head.bias"]
    assert all(p.requires_grad for p in Backbone("resnet18", 64).parameters())


@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
def test_a_backbone_is_built_where_gradients_are_switched_off(without_gradients: type) -> None:
    with without_gradients():
        backbone = Backbone("mobilenetv3_small_050", 64).eval()
        assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, 288, 2, 2)
    assert sum(not p.requires_grad for p in backbone.parameters()) == 2


def test_preprocessing_is_that_of_the_tag() -> None:
    paper, default = Backbone("test_vit.r160_in1k"), Backbone("test_resnet", 64)
    assert (paper.preprocessing.size, paper.preprocessing.mean) == (160, (0.5, 0.5, 0.5))
    assert (default.preprocessing.size, default.preprocessing.interpolation) == (64, "bilinear")


def test_a_gradient_reaches_the_first_layer() -> None:
    backbone = Backbone("test_vit", 64)
    backbone(torch.randn(1, 3, 64, 64)).sum().backward()
    assert backbone.timm_model.patch_embed.proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["crossvit_tiny_240", "pit_ti_224"])
def test_a_name_without_a_map_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name}.*requires a spatial feature map"):
        Backbone(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet_50", "no backbone 'resnet_50'.*did you mean 'resnet50'"),
        ("resnet18.nonsense", "no weights named 'resnet18.nonsense'.*resnet18.tv_in1k"),
        ("no\nsuch", r"no backbone 'no\\nsuch'"),
    ],
)
def test_unknown_names_are_told_with_the_nearest(name: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        Backbone(name)


@pytest.mark.parametrize(("name", "size"), [("hiera_tiny_224", 100), ("test_resnet", 0), ("test_resnet", -1)])
def test_a_size_that_the_backbone_cannot_take_is_told(name: str, size: int) -> None:
    with pytest.raises(ModelError, match=f"{name}.* {size} "):
        Backbone(name, size)


@pytest.mark.parametrize(
    ("bare", "tagged"),
    [
        ("resnet101", "resnet101.tv_in1k"),
        ("resnet50", "resnet50.tv_in1k"),
        ("vit_base_patch16_224", "vit_base_patch16_224.orig_in21k_ft_in1k"),
        ("vit_large_patch16_224", "vit_large_patch16_224.augreg_in21k_ft_in1k"),
        ("resnet101.a1_in1k", "resnet101.a1_in1k"),
        ("convnext_atto", "convnext_atto"),
    ],
)
def test_paper_weights(bare: str, tagged: str) -> None:
    assert paper_weights(bare) == tagged


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_images_of_another_size_than_the_model_is_built_for_are_one_line_of_ours(name: str) -> None:
    backbone = Backbone(name, 224).eval()
    with pytest.raises(ModelError) as failure, torch.inference_mode():
        backbone(torch.zeros(1, 3, 256, 224))
    told = str(failure.value)
    assert "is built for images of 224 x 224 pixels, not 256 x 224" in told
    assert "--img-size 256" in told
    assert "\n" not in told


def test_a_convolutional_model_takes_other_sizes() -> None:
    with torch.inference_mode():
        assert Backbone("test_resnet", 64)(torch.zeros(1, 3, 96, 64)).shape[2:] == (3, 2)


def test_a_hub_out_of_reach_is_one_line_with_remedies_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    begun = time.monotonic()
    with pytest.raises(ModelError) as failure:
        Backbone("resnet18", 64, pretrained=True)
    assert time.monotonic() - begun < 10
    told = str(failure.value)
    assert "\n" not in told
    assert all(remedy in told for remedy in ("resnet18", "--weights FILE", "--no-pretrained", "efficientnet-lite0"))


def test_a_name_without_published_weights_is_told_at_once() -> None:
    with pytest.raises(ModelError, match="has no weights with this name"):
        Backbone("test_mambaout", pretrained=True)
