"""Folding of BatchNorm into the preceding convolution.

The folded network computes the same function with fewer operations, but is only for inference.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

TOLERANCE = 1e-3  # relative to the largest feature
CONVOLUTIONS = (nn.Conv2d, Conv2dSame)  # other convolutions recompute the weights in each pass
NORMS = (nn.BatchNorm2d, BatchNormAct2d, nn.SyncBatchNorm, SyncBatchNormAct)  # the last two are created by --sync-bn


def folded(backbone: nn.Module, image: Tensor) -> nn.Module:
    """Return a copy of `backbone` in eval mode, with BatchNorms folded into the preceding convolutions.

    Folding uses the identity γ (w·x + b - μ) / σ + β = (γ w / σ)·x + γ (b - μ) / σ + β. A forward pass on `image`
    determines the convolution that precedes each norm. A norm is not folded if another module also uses the output of
    the convolution, because folding would then change the features. If the features of `image`
    nevertheless change by more than rounding errors, nothing is folded.

    Args:
        backbone: Float32 module with one input and one output. The forward pass of the backbone must call each norm as
            a module.
        image: Example input (B, 3, H, W) with the image size that will be used.
    """
    made = copy.deepcopy(backbone).eval()
    with torch.inference_mode(False), torch.no_grad():
        pairs, expected = _pairs(made, image)
        for convolution, norm in pairs:
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight,
                convolution.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            _replace(
                made,
                norm,
                nn.Sequential(*((norm.drop, norm.act) if isinstance(norm, BatchNormAct2d | SyncBatchNormAct) else ())),
            )
        same = (made(image) - expected).abs().amax() <= TOLERANCE * expected.abs().amax()
    if same:
        return made
    return copy.deepcopy(backbone).eval()


def _pairs(backbone: nn.Module, image: Tensor) -> tuple[list[tuple[nn.Conv2d, Any]], Tensor]:
    """Return all pairs of a convolution and the norm that follows it, and the output of the backbone.

    Only modules that run exactly once in a forward pass are included.
    """
    runs: list[nn.Module] = []
    outputs: list[tuple[Tensor, int, nn.Conv2d]] = []  # keep references, so that memory addresses are not reused
    found: list[tuple[nn.Conv2d, Any]] = []

    def before(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        runs.append(norm)
        found.extend((made_by, norm) for out, was, made_by in outputs if out is inputs[0] and out._version == was)

    def after(convolution: nn.Conv2d, _: Any, output: Tensor) -> None:
        runs.append(convolution)
        outputs.append((output, output._version, convolution))

    modules = list(backbone.modules())
    hooks = [module.register_forward_pre_hook(before) for module in modules if type(module) in NORMS]
    hooks += [module.register_forward_hook(after) for module in modules if type(module) in CONVOLUTIONS]
    features: Tensor = backbone(image)
    for hook in hooks:
        hook.remove()
    once = [(c, norm) for c, norm in found if runs.count(c) == runs.count(norm) == 1 and norm.running_mean is not None]
    return once, features


def _replace(backbone: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in backbone.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
