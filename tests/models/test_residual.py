"""The two parts of a logit, by heads written out in numpy; the paper's fixed λ."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from mlrec.models.classifier import create_head
from mlrec.models.paper_checkpoints import fixed_lam
from mlrec.models.residual import residual_parts
from mlrec.utils.errors import ModelError

FEATURES = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))


def test_average_pooling_gives_its_own_logits_and_the_maximum_over_locations() -> None:
    head = create_head("average", 6, 5)
    average, maximum = residual_parts(head, FEATURES).unbind(1)
    assert torch.equal(average, head(FEATURES))
    assert isinstance(head.linear, nn.Linear)
    scores = (
        np.einsum("bdhw,cd->bchw", FEATURES, head.linear.weight.detach())
        + head.linear.bias.detach().numpy()[:, None, None]
    )
    assert np.allclose(maximum.detach(), scores.max((2, 3)), atol=1e-5)
    assert np.allclose(average.detach(), scores.mean((2, 3)), atol=1e-5)


@pytest.mark.parametrize("lam", [0.0, 0.1, 0.7])
def test_csra_is_its_parts_at_its_own_lam(lam: float) -> None:
    head = create_head("csra", 6, 5, heads=4, lam=lam, scale=1.5)
    average, added = residual_parts(head, FEATURES).unbind(1)
    assert torch.allclose(average + lam * added, head(FEATURES), atol=1e-5)


def test_temperatures_at_test_time_are_those_of_a_head_made_with_them() -> None:
    head = create_head("csra", 6, 5, lam=0.4)
    average, *added = residual_parts(head, FEATURES, (2.0, math.inf)).unbind(1)
    for part, temperature in zip(added, (2.0, math.inf), strict=True):
        other = create_head("csra", 6, 5, lam=0.4, temperatures=(temperature,))
        other.load_state_dict(head.state_dict())
        assert torch.allclose(average + 0.4 * part, other(FEATURES), atol=1e-5)


def test_gcn_keeps_its_own_logits_whatever_its_pooling() -> None:
    for pooling in ("max", "average"):
        head = create_head("gcn", 6, 5, pooling=pooling)
        average, maximum = residual_parts(head, FEATURES).unbind(1)
        assert torch.equal(average, head(FEATURES))
        assert torch.allclose(maximum, head.location_scores(FEATURES).amax(-1))


def test_spatial_attention_alone_has_no_average() -> None:
    with pytest.raises(ModelError, match="which has no average"):
        residual_parts(create_head("spatial", 6, 5), FEATURES)


def test_the_fixed_lam_of_the_paper() -> None:
    assert fixed_lam("resnet101.tv_in1k", "average") == fixed_lam("resnet50", "average") == 0.02
    others = ("mobilenetv2_100", "tf_efficientnet_b3", "vit_base_patch16_224.orig_in21k_ft_in1k", "resnetv2_50")
    assert {fixed_lam(name, "average") for name in others} == {0.2}
    assert fixed_lam("resnet101.tv_in1k", "gcn") == 0.2
