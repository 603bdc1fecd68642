"""Optimizer, its parameter groups, and the learning-rate schedule.

The learning rate depends only on the step and the config.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from mlrec.config import Config
from mlrec.utils.errors import ConfigError


def make_optimizer(model: nn.Module, config: Config) -> Optimizer:
    """Create the optimizer for all trainable parameters, see `parameter_groups`.

    The head of a model is the submodule `head`; all other parameters belong to the backbone.
    """
    groups = parameter_groups(model, config)
    fused = all(parameter.device.type in ("cpu", "cuda", "mps") for group in groups for parameter in group["params"])
    if config.opt == "sgd":
        return SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    return AdamW(groups, lr=config.lr, fused=fused)


def parameter_groups(model: nn.Module, config: Config) -> list[dict[str, Any]]:
    """Return the groups of trainable parameters, each with `lr_mult` and `weight_decay`.

    With `decay_norm_bias`, weight decay is applied to all parameters, as in the paper; otherwise, vectors (norms,
    biases) and the position and token embeddings of the backbone are excluded. The learning-rate factor `lr_mult` is
    `head_lr_mult` for the head and 1 for the backbone. With `layer_decay` δ < 1 (Clark et al., ELECTRA, ICLR 2020),
    only the last layer of the backbone has the factor 1. The factor of each earlier layer is δ times the factor of the
    next layer.

    Raises:
        ConfigError: `layer_decay` is used with a backbone whose layers timm does not number.
    """
    depth = _layer_depths(model) if config.layer_decay < 1 else {}
    split: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            head = _in_head(name)
            factor = config.head_lr_mult if head else config.layer_decay ** depth.get(name, 0)
            split.setdefault((head, factor, _is_decayed(name, parameter, config)), []).append(parameter)
    return [
        {"params": parameters, "lr_mult": factor, "weight_decay": config.weight_decay if decayed else 0.0}
        for (_, factor, decayed), parameters in sorted(split.items(), key=lambda item: item[0])
    ]


def _layer_depths(model: nn.Module) -> dict[str, int]:
    """Return the number of layers after each backbone parameter in timm's numbering; 0 for the last layer."""
    from timm.models import group_parameters

    backbone: Any = model.get_submodule("backbone.timm_model")
    if not hasattr(backbone, "group_matcher"):
        raise ConfigError(
            f"layer_decay: timm does not define the layer order of {type(backbone).__name__}; set layer_decay to 1"
        )
    layer: dict[str, int] = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
    last = max(layer.values())
    return {f"backbone.timm_model.{name}": last - number for name, number in layer.items()}


def _in_head(name: str) -> bool:
    return name.split(".", 1)[0] == "head"


def _is_decayed(name: str, parameter: nn.Parameter, config: Config) -> bool:
    embedding = name.rpartition(".")[2] in ("pos_embed", "cls_token", "reg_token", "dist_token")
    return config.decay_norm_bias or not (parameter.ndim <= 1 or embedding)


def lr_at(step: int, steps_per_epoch: int, config: Config) -> float:
    """Return the backbone learning rate for a step.

    The head learning rate is `head_lr_mult` times the backbone learning rate.

    Args:
        step: Number of previous optimizer steps.
        steps_per_epoch: Number of steps in one pass over the training split.
        config: Config with `lr`, `lr_schedule` and the related keys. During the W steps of `warmup_epochs`, the
            learning rate increases linearly from `lr` / W to `lr`. With `warmup_from_zero`, the learning rate increases
            from 0 to `lr` (1 - 1/W), as in the paper's code.
    """
    warm = round(config.warmup_epochs * steps_per_epoch)
    if step < warm:
        return config.lr * (step + (0 if config.warmup_from_zero else 1)) / warm
    if config.lr_schedule == "step":
        return config.lr * config.step_gamma ** (step // steps_per_epoch // config.lr_step_epochs)
    if config.lr_schedule == "cosine":
        share = (step - warm) / max(1, config.epochs * steps_per_epoch - warm)
        return config.lr * (1 + math.cos(math.pi * min(1.0, share))) / 2
    return config.lr


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rates of all parameter groups from the backbone learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_mult"]


def trainable(optimizer: Optimizer) -> Iterable[nn.Parameter]:
    """Return all parameters that the optimizer updates."""
    return (parameter for group in optimizer.param_groups for parameter in group["params"])
