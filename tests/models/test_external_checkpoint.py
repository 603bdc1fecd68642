"""Checkpoints of others give here the logits that their own naming's formula gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mlrec.models.external_checkpoint import MMPRETRAIN, OFFICIAL, PLAIN, assemble, recognize
from mlrec.models.paper_checkpoints import RELEASES, published_lam
from mlrec.models.weights import unwrapped
from mlrec.utils.errors import ModelError
from tests.models import oracles


def official(backbone: dict[str, Tensor], heads: list[Tensor]) -> dict[str, Tensor]:
    return backbone | {f"classifier.multi_head.{k}.head.weight": head for k, head in enumerate(heads)}


def mmpretrain(backbone: dict[str, Tensor], heads: list[Tensor]) -> dict[str, object]:
    renamed = {f"backbone.{key}": value for key, value in backbone.items()}
    return {
        "meta": {"epoch": 20},
        "state_dict": renamed | {f"head.csra_heads.{k}.head.weight": h for k, h in enumerate(heads)},
    }


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool(((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5)


def logits(content: object, images: Tensor, lam: float) -> tuple[object, Tensor]:
    foreign = recognize(unwrapped(content))
    assert foreign.backbone is not None
    assert foreign.weight is not None
    names = [str(k) for k in range(foreign.weight.shape[-2])]
    size = foreign.img_size or images.shape[-1]
    model, unused = assemble(foreign, foreign.backbone, "here", lam=lam, img_size=size, labels=names)
    assert unused == []
    with torch.no_grad():
        return foreign, model.to(images.dtype)(images)


@pytest.mark.parametrize(
    ("depth", "width", "heads", "labels", "size", "prefix"),
    [
        pytest.param(50, 2048, 1, 20, 224, "", marks=pytest.mark.long),
        pytest.param(101, 2048, 6, 80, 448, "module.", marks=pytest.mark.long),
        (18, 512, 4, 80, 64, "module."),
    ],
)
def test_the_papers_resnets(depth: int, width: int, heads: int, labels: int, size: int, prefix: str) -> None:
    torch.manual_seed(0)
    backbone, convolutions = oracles.resnet_state(depth), oracles.heads_of(heads, labels, width)
    images = torch.rand(1, 3, size, size)
    content = {prefix + key: value for key, value in official(backbone, convolutions).items()}
    foreign, ours = logits(content, images, 0.5)
    assert (foreign.naming, foreign.family, foreign.heads) == (OFFICIAL, "resnet", heads)
    assert foreign.backbone == f"resnet{depth}.tv_in1k"
    features = oracles.resnet_features(backbone, depth, images)
    assert close(ours, oracles.csra_logits(features, convolutions, 0.5))


@pytest.mark.parametrize(("size", "heads", "labels"), [(224, 1, 14), pytest.param(448, 8, 80, marks=pytest.mark.long)])
def test_the_papers_vit_base(size: int, heads: int, labels: int) -> None:
    torch.manual_seed(0)
    backbone, convolutions = oracles.vit_state(768, 12, size // 16), oracles.heads_of(heads, labels, 768)
    images = torch.randn(1, 3, size, size)
    foreign, ours = logits(official(backbone, convolutions), images, 0.3)
    assert (foreign.family, foreign.img_size, foreign.heads) == ("vit", size, heads)
    assert foreign.backbone == "vit_base_patch16_224.orig_in21k_ft_in1k"
    assert close(ours, oracles.csra_logits(oracles.vit_features(backbone, images, 12), convolutions, 0.3))


def test_mmpretrains_file_is_the_same_model() -> None:
    torch.manual_seed(0)
    backbone, convolutions = oracles.resnet_state(18), oracles.heads_of(1, 20, 512)
    images = torch.rand(2, 3, 64, 64)
    foreign, ours = logits(mmpretrain(backbone, convolutions), images, 0.1)
    assert foreign.naming == MMPRETRAIN
    assert close(ours, oracles.csra_logits(oracles.resnet_features(backbone, 18, images), convolutions, 0.1))


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_plain_resnet_keeps_its_own_classifier(wrapped: bool) -> None:
    torch.manual_seed(0)
    backbone = oracles.resnet_state(18)
    weight, bias = torch.randn(1000, 512), torch.randn(1000)
    content: dict[str, object] = {**backbone, "fc.weight": weight, "fc.bias": bias}
    if wrapped:  # as CutMix's file is
        content = {
            "epoch": 300,
            "arch": "resnet",
            "state_dict": {f"module.{key}": value for key, value in content.items()},
        }
    images = torch.rand(2, 3, 64, 64)
    foreign, ours = logits(content, images, 0.0)
    assert (foreign.naming, foreign.heads) == (PLAIN, 0)
    features = oracles.resnet_features(backbone, 18, images)
    assert close(ours, features.mean((2, 3)) @ weight.T + bias)


@pytest.mark.parametrize(("kept", "told"), [([0, 2], r"numbered 0, 2"), ([1], r"numbered 1")])
def test_heads_that_are_not_all_there_are_refused(kept: list[int], told: str) -> None:
    heads = {f"classifier.multi_head.{k}.head.weight": torch.zeros(3, 4, 1, 1) for k in kept}
    with pytest.raises(ModelError, match=told):
        recognize(heads)


def test_heads_of_unequal_shapes_are_refused() -> None:
    shapes = {"classifier.multi_head.0.head.weight": (3, 4, 1, 1), "classifier.multi_head.1.head.weight": (2, 4, 1, 1)}
    with pytest.raises(ModelError, match="all heads must have the same shape"):
        recognize({key: torch.zeros(shape) for key, shape in shapes.items()})


def test_a_backbone_with_a_tensor_too_few_is_refused_with_counts() -> None:
    backbone = oracles.resnet_state(18)
    del backbone["layer3.0.conv2.weight"]
    foreign = recognize(official(backbone, oracles.heads_of(1, 20, 512)))
    with pytest.raises(ModelError, match=r"1 missing, 0 unexpected.*layer3.0.conv2.weight"):
        assemble(foreign, "resnet18", "here", lam=0.1, img_size=64, labels=[str(k) for k in range(20)])


@pytest.mark.parametrize(
    "release", RELEASES, ids=lambda release: f"{release.dataset}-{release.backbone}-{release.heads}"
)
def test_published_lambda(release: object) -> None:
    if (release.dataset, release.heads) == ("coco2014", 6):  # type: ignore[attr-defined]
        with pytest.raises(ModelError, match=r"--lam 0.5 for ResNet-101, --lam 0.4 for ResNet-cut"):
            published_lam("coco2014", "resnet", 6)
    else:
        known = published_lam(release.dataset, release.family, release.heads)  # type: ignore[attr-defined]
        assert known == release.lam  # type: ignore[attr-defined]


def test_no_published_lambda_asks_for_one() -> None:
    with pytest.raises(ModelError, match="set λ with --lam X"):
        published_lam(None, "vit", 3)
