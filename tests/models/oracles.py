"""The paper's models read off their state dicts: plain functions of tensors, sharing no code with the package."""

from __future__ import annotations

import math

import torch
import torchvision
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm, linear, scaled_dot_product_attention

TEMPERATURES = {1: [1], 4: [1, 2, 4, math.inf], 6: [1, 2, 3, 4, 5, math.inf], 8: [1, 2, 3, 4, 5, 6, 7, math.inf]}


def csra_logits(features: Tensor, heads: list[Tensor], lam: float) -> Tensor:
    """The sum over heads of mean + λ·attended, each head a 1×1 convolution (C, d, 1, 1), scores over its length."""
    total = torch.zeros(len(features), heads[0].shape[0], dtype=features.dtype)
    for weight, temperature in zip(heads, TEMPERATURES[len(heads)], strict=True):
        scores = conv2d(features, weight) / weight.norm(dim=1, keepdim=True).transpose(0, 1)
        scores = scores.flatten(2)
        attended = (
            scores.max(2).values if math.isinf(temperature) else ((temperature * scores).softmax(2) * scores).sum(2)
        )
        total += scores.mean(2) + lam * attended
    return total


def resnet_features(state: dict[str, Tensor], depth: int, images: Tensor) -> Tensor:
    """torchvision's own ResNet up to its last map."""
    model = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    model.fc = torch.nn.Identity()
    model.load_state_dict(state)
    model = model.to(images.dtype).eval()
    with torch.no_grad():
        x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
        return model.layer4(model.layer3(model.layer2(model.layer1(x))))


def vit_features(state: dict[str, Tensor], images: Tensor, heads: int) -> Tensor:
    """A pre-norm ViT with class token: its patch tokens after the final norm, as a map."""
    state = {key: value.to(images.dtype) for key, value in state.items()}
    width = state["cls_token"].shape[-1]
    patch = state["patch_embed.proj.weight"].shape[-1]

    def norm(x: Tensor, name: str) -> Tensor:
        return layer_norm(x, (width,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

    def dense(x: Tensor, name: str) -> Tensor:
        return linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    patches = conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=patch)
    grid = patches.shape[-2:]
    x = torch.cat([state["cls_token"].expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
    x = x + state["pos_embed"]
    for k in range(len({key.split(".")[1] for key in state if key.startswith("blocks.")})):
        qkv = dense(norm(x, f"blocks.{k}.norm1"), f"blocks.{k}.attn.qkv")
        q, key_, v = qkv.unflatten(-1, (3, heads, width // heads)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, key_, v).transpose(1, 2).flatten(2)
        x = x + dense(mixed, f"blocks.{k}.attn.proj")
        hidden = gelu(dense(norm(x, f"blocks.{k}.norm2"), f"blocks.{k}.mlp.fc1"))
        x = x + dense(hidden, f"blocks.{k}.mlp.fc2")
    return norm(x, "norm")[:, 1:].transpose(1, 2).unflatten(2, grid)


def resnet_state(depth: int) -> dict[str, Tensor]:
    """Random torchvision weights without classifier, statistics of BatchNorm included."""
    state = getattr(torchvision.models, f"resnet{depth}")(weights=None).state_dict()
    for key, value in state.items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def vit_state(width: int, depth: int, side: int, patch: int = 16) -> dict[str, Tensor]:
    """Random weights under the names of an old timm ViT, positions for `side` × `side` patches."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, side * side + 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for k in range(depth):
        for name, rows, columns in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)):
            shapes[f"blocks.{k}.{name}.weight"] = (rows * width, columns * width)
            shapes[f"blocks.{k}.{name}.bias"] = (rows * width,)
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{k}.{name}.weight": (width,), f"blocks.{k}.{name}.bias": (width,)}
    return {
        key: torch.randn(shape) * 0.05 + (1.0 if "norm" in key and "weight" in key else 0.0)
        for key, shape in shapes.items()
    }


def heads_of(count: int, labels: int, width: int) -> list[Tensor]:
    """Random 1×1 convolutions (labels, width, 1, 1)."""
    return [torch.randn(labels, width, 1, 1) * 0.05 for _ in range(count)]
