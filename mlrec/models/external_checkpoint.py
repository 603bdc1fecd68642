"""Conversion of third-party checkpoints, identified by their tensor names, to mlrec models.

Checkpoints of the paper's code contain `classifier.multi_head.K.head.weight` and a torchvision ResNet or a ViT with old
timm names. Checkpoints of mmpretrain contain `backbone.*` and `head.csra_heads.K.head.weight`. Linear classifiers
(`fc.*` or `head.*`) with torchvision, timm or CutMix names are also supported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import timm
import torch
from torch import Tensor

from mlrec.models.backbones import paper_weights
from mlrec.models.classifier import Classifier, create_model
from mlrec.models.weights import BACKBONE_PREFIX, backbone_state, fit
from mlrec.utils.errors import ModelError

OFFICIAL, MMPRETRAIN, PLAIN = "the paper's code", "mmpretrain", "plain"
_HEADS = {
    OFFICIAL: re.compile(r"classifier\.multi_head\.(\d+)\.head\.weight"),
    MMPRETRAIN: re.compile(r"head\.csra_heads\.(\d+)\.head\.weight"),
}
_RESNETS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
_VITS = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large"}


@dataclass(frozen=True, eq=False)
class ExternalCheckpoint:
    """Third-party checkpoint whose naming scheme was recognized.

    Attributes:
        naming: Naming scheme, one of the module constants.
        family: Architecture family, "resnet", "vit" or "other".
        backbone: timm name with the tag of the paper's weights, or None if the name cannot be inferred from tensor
            names.
        img_size: Input side length in pixels that the positional embedding requires; None if any size is possible.
        backbone_tensors: Tensors of the backbone, with timm names.
        weight: Weights of the classifier: (H, C, d) for CSRA, (C, d) for a linear classifier; None if there is no
            classifier.
        bias: Bias (C,) of a linear classifier; None for CSRA or without a classifier.
    """

    naming: str
    family: str
    backbone: str | None
    img_size: int | None
    backbone_tensors: dict[str, Tensor]
    weight: Tensor | None
    bias: Tensor | None

    @property
    def heads(self) -> int:
        """Number of CSRA heads H; 0 for a linear classifier or without a classifier."""
        if self.weight is None or self.weight.ndim == 2:
            return 0
        return self.weight.shape[0]


def recognize(tensors: Mapping[str, Tensor]) -> ExternalCheckpoint:
    """Infer the naming scheme, the architecture and the image size from tensor names and shapes.

    Raises:
        ModelError: The heads are not numbered from 0 without gaps, or have unequal or unsuitable shapes.
    """
    for naming, pattern in _HEADS.items():
        found = {int(match[1]): tensor for key, tensor in tensors.items() if (match := pattern.fullmatch(key))}
        if found:
            rest = {key: tensor for key, tensor in tensors.items() if not pattern.fullmatch(key)}
            return _understood(naming, rest, _stacked(found), None)
    for name in ("fc", "head", "classifier", "head.fc"):
        weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
        if weight is not None and bias is not None and weight.ndim == 2 and bias.shape == weight.shape[:1]:
            rest = {key: tensor for key, tensor in tensors.items() if key not in (f"{name}.weight", f"{name}.bias")}
            return _understood(PLAIN, rest, weight, bias)
    return _understood(PLAIN, dict(tensors), None, None)


def assemble(
    foreign: ExternalCheckpoint, backbone: str, source: str, *, lam: float, img_size: int | None, labels: Sequence[str]
) -> tuple[Classifier, list[str]]:
    """Convert a checkpoint to an mlrec model; return the model and the names of unused tensors.

    For example, the tensors of a second classifier are not used. The checkpoint must have a classifier.

    Raises:
        ModelError: The tensors do not match `backbone` or the number of labels. If tensor names differ, the message
            states the numbers of matched, missing and unexpected tensors.
    """
    assert foreign.weight is not None
    head, heads = ("csra", foreign.heads) if foreign.heads else ("average", None)
    model = create_model(backbone, len(labels), head, heads, lam, img_size=img_size, labels=labels)
    backbone_tensors = backbone_state(foreign.backbone_tensors, model.backbone)
    state = {BACKBONE_PREFIX + key: tensor for key, tensor in backbone_tensors.items()}
    if foreign.bias is None:
        state["head.weight"] = foreign.weight
    else:
        state |= {"head.linear.weight": foreign.weight, "head.linear.bias": foreign.bias}
    fit(model, state, source)
    return model.eval(), sorted(set(foreign.backbone_tensors) - set(backbone_tensors))


def _stacked(heads: Mapping[int, Tensor]) -> Tensor:
    """Stack the classifiers (C, d, 1, 1) of all heads into one tensor (H, C, d)."""
    if sorted(heads) != list(range(len(heads))):
        raise ModelError(
            f"the heads are numbered {', '.join(map(str, sorted(heads)))}, but must be numbered from 0 without gaps; "
            "download the file again"
        )
    shapes = {tuple(tensor.shape) for tensor in heads.values()}
    shape = next(iter(shapes))
    if len(shapes) > 1 or len(shape) != 4 or shape[2:] != (1, 1):
        raise ModelError(
            "all heads must have the same shape (labels, channels, 1, 1), but the file contains the shapes "
            f"{', '.join(map(str, sorted(shapes)))}; save the checkpoint again"
        )
    return torch.stack([heads[k].flatten(1) for k in range(len(heads))])


def _understood(
    naming: str, backbone_tensors: dict[str, Tensor], weight: Tensor | None, bias: Tensor | None
) -> ExternalCheckpoint:
    if backbone_tensors and all(key.startswith("backbone.") for key in backbone_tensors):
        backbone_tensors = {key.removeprefix("backbone."): tensor for key, tensor in backbone_tensors.items()}
    if "layer1.0.conv1.weight" in backbone_tensors:
        return ExternalCheckpoint(naming, "resnet", _resnet(backbone_tensors), None, backbone_tensors, weight, bias)
    if "blocks.0.attn.qkv.weight" in backbone_tensors and "patch_embed.proj.weight" in backbone_tensors:
        return ExternalCheckpoint(
            naming, "vit", _vit(backbone_tensors), _vit_size(backbone_tensors), backbone_tensors, weight, bias
        )
    return ExternalCheckpoint(naming, "other", None, None, backbone_tensors, weight, bias)


def _resnet(backbone_tensors: Mapping[str, Tensor]) -> str | None:
    blocks = [
        {key.split(".")[1] for key in backbone_tensors if key.startswith(f"layer{stage}.")} for stage in (1, 2, 3, 4)
    ]
    counts = (len(blocks[0]), len(blocks[1]), len(blocks[2]), len(blocks[3]))
    depth = _RESNETS.get((counts, "layer1.0.conv3.weight" in backbone_tensors))
    if depth is not None:
        return paper_weights(f"resnet{depth}")
    return None


def _vit(backbone_tensors: Mapping[str, Tensor]) -> str | None:
    width, patch = (
        backbone_tensors["patch_embed.proj.weight"].shape[0],
        backbone_tensors["patch_embed.proj.weight"].shape[-1],
    )
    depth = len({key.split(".")[1] for key in backbone_tensors if key.startswith("blocks.")})
    size = _VITS.get((width, depth))
    name = f"vit_{size}_patch{patch}_224"
    if timm.is_model(name):
        return paper_weights(name)
    return None


def _vit_size(backbone_tensors: Mapping[str, Tensor]) -> int | None:
    """Return the image side length for which the positional embedding was made, or None if it is unknown.

    The embedding has one row per patch and one row for the class token.
    """
    positions = backbone_tensors.get("pos_embed")
    if positions is None or positions.ndim != 3:
        return None
    side = math.isqrt(max(positions.shape[1] - 1, 0))
    return (
        side * int(backbone_tensors["patch_embed.proj.weight"].shape[-1])
        if side * side + 1 == positions.shape[1]
        else None
    )
