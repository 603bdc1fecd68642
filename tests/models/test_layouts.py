"""Heads give equal results for each layout of the same features, and refuse features of another layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import timm
import torch
from torch import Tensor

import mlrec
from mlrec.models.backbones import Backbone
from mlrec.models.classifier import HEADS, create_head
from mlrec.models.csra import LAYOUTS
from mlrec.utils.errors import ModelError
from mlrec.utils.plugins import load_part

if TYPE_CHECKING:
    from mlrec.models.classifier import Head

PREFIX = 2
NAMES = ("csra", "spatial", "average", "gcn")


def in_layout(features: Tensor, layout: str) -> Tensor:
    """The same features (B, d, h, w) as another layout has them; two tokens that must be ignored come first."""
    if layout == "nchw":
        return features
    nhwc = torch.einsum("bdhw->bhwd", features)
    if layout == "nhwc":
        return nhwc.clone()
    tokens = torch.stack([location for row in nhwc.unbind(1) for location in row.unbind(1)], dim=1)
    return torch.cat([torch.full((len(features), PREFIX, features.shape[1]), 1e3), tokens], dim=1)


def heads(name: str, layout: str) -> tuple[Head, Head]:
    torch.manual_seed(0)
    options = {"heads": 4, "lam": 0.5} if name == "csra" else {}
    first = create_head(name, 5, 3, **options)
    arguments = {key: value for key, value in options.items() if key in load_part(HEADS[name]).OPTIONS}
    second = load_part(HEADS[name])(5, 3, layout=layout, prefix_tokens=PREFIX if layout == "tokens" else 0, **arguments)
    second.load_state_dict(first.state_dict())
    return first, second


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_results_are_equal_in_each_layout(name: str, layout: str) -> None:
    features = torch.randn(2, 5, 3, 4)
    first, second = heads(name, layout)
    given = in_layout(features, layout)
    torch.testing.assert_close(second(given), first(features))
    torch.testing.assert_close(second.location_scores(given), first.location_scores(features))
    torch.testing.assert_close(second.contributions(given), first.contributions(features))
    if isinstance(first, mlrec.CSRA) and isinstance(second, mlrec.CSRA):
        shape = (2, len(first.temperatures), 3, *((12,) if layout == "tokens" else (3, 4)))
        torch.testing.assert_close(second.attention(given), first.attention(features).reshape(shape))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_are_equal_in_each_layout(name: str, layout: str) -> None:
    first, second = heads(name, layout)
    features = torch.randn(2, 5, 3, 4)
    first(features).square().sum().backward()
    second(in_layout(features, layout)).square().sum().backward()
    for ours, theirs in zip(second.parameters(), first.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_tokens_of_a_vision_transformer_are_its_feature_map() -> None:
    torch.manual_seed(0)
    backbone = Backbone("test_vit", 64).eval()
    images = torch.rand(2, 3, 64, 64)
    vit = backbone.timm_model
    head = mlrec.CSRA(backbone.num_features, 3, heads=2, lam=0.5)
    of_tokens = mlrec.CSRA(
        backbone.num_features, 3, heads=2, lam=0.5, layout="tokens", prefix_tokens=vit.num_prefix_tokens
    )
    of_tokens.load_state_dict(head.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(of_tokens(vit.forward_features(images)), head(backbone(images)))


def test_a_swin_transformer_of_timm_is_nhwc() -> None:
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=2, depths=(1, 1), embed_dim=16, num_heads=(1, 2),
        num_classes=0,
    )  # fmt: skip
    head = mlrec.CSRA(swin.num_features, 3, layout="nhwc")
    features = swin.forward_features(torch.rand(2, 3, 64, 64))
    assert head(features).shape == (2, 3)
    with pytest.raises(ModelError, match=r"layout='nchw' requires .*; use layout='nhwc'"):
        mlrec.CSRA(swin.num_features, 3)(features)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("layout", "shape", "message"),
    [
        (
            "nchw",
            (2, 7, 7, 5),
            r"\(2, 7, 7, 5\), but layout='nchw' requires \(B, 5, h, w\); use layout='nhwc'",
        ),
        ("nchw", (2, 50, 5), r"layout='nchw' requires \(B, 5, h, w\); use layout='tokens'"),
        ("nhwc", (2, 5, 7, 7), r"layout='nhwc' requires \(B, h, w, 5\); use layout='nchw'"),
        ("tokens", (2, 5, 50), r"layout='tokens' requires \(B, N, 5\); pass features of the expected shape$"),
        ("tokens", (2, 2, 5), "no location tokens remain after 2 prefix tokens"),
    ],
)
def test_features_of_another_layout_are_refused(name: str, layout: str, shape: tuple[int, ...], message: str) -> None:
    head = heads(name, layout)[1]
    with pytest.raises(ModelError, match=message):
        head(torch.zeros(shape))


def test_unknown_layouts_and_prefix_tokens_of_a_map_are_refused() -> None:
    with pytest.raises(ModelError, match="layout = 'nhcw': expected one of nchw, nhwc, tokens; did you mean"):
        mlrec.CSRA(4, 2, layout="nhcw")
    with pytest.raises(ModelError, match="prefix_tokens = 1: must be at least 0, and must be 0 unless layout='tokens'"):
        mlrec.CSRA(4, 2, prefix_tokens=1)
