"""Losses, against torch, torchvision, and slow formulas of their papers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.training.losses import LOSSES, LossContext, asl, loss_function, positive_weight
from mlrec.utils.errors import ConfigError

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 0.0, 1.5], [0.3, 4.0, -2.0], [1.0, -0.5, 0.1]])
TARGETS = torch.tensor([[1, 0, -1], [0, 1, 0], [-1, 1, 0], [1, 0, 0]], dtype=torch.int8)


def manifest(targets: np.ndarray) -> Manifest:
    names = tuple(f"{k}.jpg" for k in range(len(targets)))
    return Manifest("m", "train", Path("/"), ("a", "b", "c"), names, targets.astype(np.int8))


def context(config: Config) -> LossContext:
    return LossContext(config, TARGETS == -1, 0, torch.ones(3), 4)


TRAIN = manifest(TARGETS.numpy())


def run(logits: torch.Tensor = LOGITS, targets: torch.Tensor = TARGETS, **keys: object) -> float:
    return loss_function(Config(**keys), TRAIN)(logits, targets).item()  # type: ignore[arg-type]


def slow_asl(logits: torch.Tensor, targets: torch.Tensor, gamma_pos: float, gamma_neg: float, margin: float) -> float:
    values = []
    for x, y in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        shifted = max(p - margin, 0.0)
        positive, negative = -((1 - p) ** gamma_pos) * math.log(p), -(shifted**gamma_neg) * math.log(1 - shifted)
        values.append(positive if y == 1 else negative)
    return sum(values) / len(values)


def test_bce_is_torchs_mean_with_unknown_as_negative() -> None:
    expected = torch.nn.BCEWithLogitsLoss()(LOGITS, (TARGETS == 1).float())
    assert run() == pytest.approx(expected.item(), rel=1e-6)


def test_ignored_cells_are_left_out_of_sum_and_count() -> None:
    known = TARGETS != -1
    expected = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS[known], (TARGETS[known] == 1).float())
    assert run(unknown="ignore") == pytest.approx(expected.item(), rel=1e-6)
    logits = LOGITS.clone().requires_grad_()
    loss_function(Config(unknown="ignore"), TRAIN)(logits, TARGETS).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad == 0, ~known)


def test_a_batch_that_knows_nothing_costs_nothing() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = loss_function(Config(unknown="ignore"), TRAIN)(logits, torch.full_like(TARGETS, -1))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal_is_torchvisions(gamma: float) -> None:
    expected = sigmoid_focal_loss(LOGITS, (TARGETS == 1).float(), alpha=-1, gamma=gamma, reduction="mean")
    assert run(loss="focal", gamma_pos=gamma) == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("gamma_pos", "gamma_neg", "margin"), [(1, 4, 0.05), (0, 4, 0.05), (0, 2, 0.0), (0, 0, 0.0), (2, 1, 0.3)]
)
def test_asl_is_its_papers_formula(gamma_pos: float, gamma_neg: float, margin: float) -> None:
    value = run(loss="asl", gamma_pos=gamma_pos, gamma_neg=gamma_neg, asl_clip=margin)
    assert value == pytest.approx(slow_asl(LOGITS, TARGETS, gamma_pos, gamma_neg, margin), rel=1e-5)


def test_asl_without_focus_and_margin_is_bce() -> None:
    assert run(loss="asl", gamma_pos=0.0, gamma_neg=0.0, asl_clip=0.0) == pytest.approx(run(), rel=1e-6)


def test_asls_gradient_is_that_of_the_formula() -> None:
    logits = LOGITS.double().requires_grad_()
    loss = asl(logits, (TARGETS == 1).double(), context(Config())).mean()
    loss.backward()
    step = torch.zeros_like(LOGITS, dtype=torch.float64)
    step[1, 2] = 1e-6
    up, down = (slow_asl((LOGITS.double() + s * step), TARGETS, 1, 4, 0.05) for s in (1, -1))
    assert logits.grad is not None
    assert logits.grad[1, 2].item() == pytest.approx((up - down) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_extreme_logits_keep_loss_and_gradient_finite(name: str, gamma: float, margin: float) -> None:
    config = Config(loss=name, gamma_pos=gamma, gamma_neg=gamma, asl_clip=margin)  # type: ignore[arg-type]
    targets = torch.tensor([[1, 0, 1], [1, 0, 0]], dtype=torch.int8)
    logits = torch.tensor([[-200.0, 200.0, 0.0], [200.0, -200.0, 30.0]], requires_grad=True)
    loss = loss_function(config, TRAIN)(logits, targets)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits_are_judged_in_float32(name: str) -> None:
    half = LOGITS.bfloat16()
    loss = loss_function(Config(loss=name), TRAIN)  # type: ignore[arg-type]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(half, TARGETS)
    assert value.dtype == torch.float32
    assert value.item() == loss(half.float(), TARGETS).item()


def test_a_better_guess_never_costs_more() -> None:
    better = LOGITS + (2.0 * (TARGETS == 1) - 1)
    for name in LOSSES.keys() - {"em"}:  # it has no right answer for unknown targets
        assert run(better, loss=name) < run(loss=name)


def test_automatic_weights_are_negatives_over_positives() -> None:
    targets = np.array([[1, 0, 1], [0, 0, 1], [-1, 0, 1], [0, -1, 1]])
    weight = positive_weight(Config(pos_weight="auto", unknown="ignore"), manifest(targets))
    np.testing.assert_array_equal(weight, [2, 1, 1])  # absent and ever-present labels stay finite
    weight = positive_weight(Config(pos_weight="auto"), manifest(targets))
    np.testing.assert_array_equal(weight, [3, 1, 1])


def test_weights_act_on_positives_as_torchs() -> None:
    rare = manifest(np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]))
    loss = loss_function(Config(pos_weight="auto"), rare)
    weight = torch.tensor([3.0, 1.0, 3.0])
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=weight)(LOGITS, (TARGETS == 1).float())
    assert loss(LOGITS, TARGETS).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_larger_weight_pulls_harder_on_positives_only() -> None:
    def gradient(pos_weight: str) -> torch.Tensor:
        logits = LOGITS.clone().requires_grad_()
        loss_function(Config(pos_weight=pos_weight), manifest(np.eye(3)))(logits, TARGETS).backward()
        assert logits.grad is not None
        return logits.grad

    plain, weighted = gradient("none"), gradient("auto")
    torch.testing.assert_close(weighted[TARGETS == 1], 2 * plain[TARGETS == 1])
    torch.testing.assert_close(weighted[TARGETS != 1], plain[TARGETS != 1])


def test_weights_from_a_file_are_matched_by_name(tmp_path: Path) -> None:
    file = tmp_path / "weights.csv"
    file.write_text("label,weight\nc,3\na,1\nb,2.5\n")
    weight = positive_weight(Config(pos_weight=str(file)), TRAIN)
    np.testing.assert_array_equal(weight, [1, 2.5, 3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,1\nb,2\n", "missing 'c'"),
        ("a,1\nb,2\nc,3\nd,4\n", "unexpected 'd'"),
        ("a,1\nb,2\nc,3\na,4\n", "line 4: label 'a' is listed twice"),
        ("a,1\nb,zero\nc,3\n", "line 2: expected 'label,weight'"),
        ("a,1\nb,-2\nc,3\n", "line 2"),
        ("a,1\nb,nan\nc,3\n", "line 2"),
        ("a,1\nb\nc,3\n", "line 2"),
    ],
)
def test_a_file_of_weights_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "weights.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        loss_function(Config(pos_weight=str(file)), TRAIN)


def test_a_label_without_positives_leaves_the_loss_finite() -> None:
    absent = manifest(np.array([[0, 0, 0], [0, 0, -1]]))
    for name in LOSSES:
        assert math.isfinite(loss_function(Config(loss=name, pos_weight="auto"), absent)(LOGITS, TARGETS).item())  # type: ignore[arg-type]
