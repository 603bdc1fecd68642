"""Optimizer and its parameter groups; learning rates as tabulated from the paper's code."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from mlrec.config import Config
from mlrec.config_layers import recipe_chain, resolve
from mlrec.models.classifier import create_model
from mlrec.training import optimizer
from mlrec.training.optimizer import lr_at, make_optimizer, parameter_groups, set_lr
from mlrec.utils.errors import ConfigError

# steps an epoch at batch 16 and the lr of epochs 3, 4, 5, ... (two epochs of warm-up come before)
VOC = (314, [1e-2] * 2 + [1e-3] * 4 + [1e-4] * 4 + [1e-5] * 4 + [1e-6] * 4 + [1e-7] * 4 + [1e-8] * 4 + [1e-9] * 2)
COCO = (5131, [1e-2] * 3 + [1e-3] * 5 + [1e-4] * 5 + [1e-5] * 5 + [1e-6] * 5 + [1e-7] * 5)
WIDER = (1772, COCO[1])


def recipe(name: str, kind: str) -> Config:
    return resolve(*recipe_chain(name), source_kind=kind).config


@pytest.mark.parametrize(("kind", "table"), [("voc2007", VOC), ("voc2012", VOC), ("coco", COCO), ("wider", WIDER)])
def test_lr_of_every_epoch_is_the_tabulated_one(kind: str, table: tuple[int, list[float]]) -> None:
    steps, by_epoch = table
    config = recipe("paper-code", kind)
    assert config.epochs == len(by_epoch) + 2 == 30
    assert lr_at(0, steps, config) == 0
    assert lr_at(steps, steps, config) == pytest.approx(0.005, rel=1e-9)
    assert lr_at(2 * steps - 1, steps, config) == pytest.approx(0.01 * (2 * steps - 1) / (2 * steps), rel=1e-9)
    for epoch, lr in enumerate(by_epoch, start=2):
        assert lr_at(epoch * steps, steps, config) == pytest.approx(lr, rel=1e-9)
        assert lr_at((epoch + 1) * steps - 1, steps, config) == pytest.approx(lr, rel=1e-9)


def test_the_papers_recipe_differs_by_one_step_of_warm_up_only() -> None:
    paper, code = recipe("paper", "voc2007"), recipe("paper-code", "voc2007")
    assert [lr_at(k, 314, paper) for k in range(627)] == [lr_at(k + 1, 314, code) for k in range(627)]
    assert [lr_at(k, 314, paper) for k in range(628, 9420)] == [lr_at(k, 314, code) for k in range(628, 9420)]


def test_cosine_falls_from_lr_to_nothing_after_the_warm_up() -> None:
    config = Config(lr_schedule="cosine", epochs=10, warmup_epochs=1.0, lr=0.1)
    lrs = [lr_at(k, 7, config) for k in range(70)]
    assert lrs[6] == lrs[7] == 0.1
    assert lrs == sorted(lrs[:7]) + sorted(lrs[7:], reverse=True)
    assert lrs[7 + 63 // 3] == pytest.approx(0.1 * (1 + math.cos(math.pi / 3)) / 2)
    assert 0 < lrs[-1] < 1e-3


def test_constant_and_fractional_warm_up() -> None:
    config = Config(lr_schedule="constant", warmup_epochs=0.5, lr=0.2)
    assert [lr_at(k, 4, config) for k in range(4)] == [0.1, 0.2, 0.2, 0.2]


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)


def test_groups_hold_every_parameter_once_with_its_multiplier() -> None:
    model = Tiny()
    groups = parameter_groups(model, Config(head_lr_mult=10))
    assert [(g["lr_mult"], g["weight_decay"], len(g["params"])) for g in groups] == [(1.0, 1e-4, 4), (10, 1e-4, 2)]
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in model.parameters()}


def test_without_decay_norm_bias_spares_vectors_and_a_frozen_backbone_has_no_group() -> None:
    model = Tiny()
    groups = parameter_groups(model, Config(decay_norm_bias=False, weight_decay=0.1))
    assert [(g["weight_decay"], len(g["params"])) for g in groups] == [(0.0, 3), (0.1, 1), (0.0, 1), (0.1, 1)]
    model.backbone.requires_grad_(False)
    assert [g["lr_mult"] for g in parameter_groups(model, Config(head_lr_mult=3))] == [3]


@pytest.mark.parametrize("opt", ["sgd", "adamw"])
def test_a_step_moves_the_head_by_its_own_lr(opt: str) -> None:
    model = Tiny()
    config = Config(opt=opt, head_lr_mult=10, weight_decay=0.0)
    made = make_optimizer(model, config)
    before = [p.detach().clone() for p in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    set_lr(made, 0.01)
    made.step()
    moves = [(b - p.detach()).abs().max().item() for b, p in zip(before, model.parameters(), strict=True)]
    assert moves[:4] == pytest.approx([0.01] * 4, rel=1e-3)
    assert moves[4:] == pytest.approx([0.1] * 2, rel=1e-3)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "vit_tiny_patch16_224"])
def test_layer_decay_is_that_of_timm(name: str) -> None:
    model = create_model(name, 3, "csra", 1, 0.5, False, img_size=64)
    ours = parameter_groups(model, Config(layer_decay=0.75, decay_norm_bias=False, weight_decay=0.1, head_lr_mult=7))
    theirs = param_groups_layer_decay(model.backbone.timm_model, weight_decay=0.1, layer_decay=0.75)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    factors = {names[id(p)]: group["lr_mult"] for group in ours for p in group["params"]}
    expected = {names[id(p)]: group["lr_scale"] for group in theirs for p in group["params"]}
    # timm counts a classifier as one layer more, if the model had one
    last = max(expected.values())
    trained = {name: factor / last for name, factor in expected.items()}
    assert {name: factors[name] for name in trained} == pytest.approx(trained)
    assert {factors[name] for name in factors.keys() - trained.keys()} == {7}


def test_layer_decay_needs_numbered_layers() -> None:
    model = create_model("test_resnet", 3, "average", 1, 0.0, False, img_size=64)
    model.backbone.timm_model = nn.Sequential(nn.Conv2d(3, 8, 1))
    with pytest.raises(ConfigError, match="does not define the layer order of Sequential"):
        parameter_groups(model, Config(layer_decay=0.5))
    assert len(parameter_groups(model, Config())) == 2


@pytest.mark.parametrize(("device", "fused"), [("cpu", True), ("cuda", True), ("mps", True), ("meta", False)])
def test_the_optimizer_is_fused_where_torch_has_that(monkeypatch: pytest.MonkeyPatch, device: str, fused: bool) -> None:
    options: dict[str, Any] = {}
    parameter = SimpleNamespace(requires_grad=True, device=torch.device(device), ndim=2)
    model = SimpleNamespace(named_parameters=lambda: [("head.weight", parameter)])
    monkeypatch.setattr(optimizer, "SGD", lambda groups, **given: options.update(given))
    make_optimizer(model, Config())  # type: ignore[arg-type]
    assert options["fused"] is fused
