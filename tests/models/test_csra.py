"""CSRA against hand-checked numbers, against a head-by-head oracle in float64, and against its own mathematics."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import mlrec
from mlrec.config import TEMPERATURES
from mlrec.models.classifier import HEADS, AveragePooling, create_head
from mlrec.models.csra import CSRA, SpatialAttention
from mlrec.utils.errors import ModelError

# Three locations in two channels, and a classifier (3, 4): s = (0.6, 0.8, 1.4).
GOLDEN = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])[None, :, None, :]


def golden_head(**options: object) -> CSRA:
    head = CSRA(2, 1, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        head.weight.copy_(torch.tensor([3.0, 4.0]).expand_as(head.weight))
    return head


def by_head(head: CSRA, features: Tensor) -> Tensor:
    """The paper read literally: build f of Eq. 5 for each head, label and image, classify it, add the heads."""
    features = features.double().flatten(2)
    logits = torch.zeros(len(features), head.weight.shape[1], dtype=torch.float64)
    for b, x in enumerate(features):
        for h, temperature in enumerate(head.temperatures):
            for c, m in enumerate(head.weight[h].detach().double()):
                m = m / m.norm() if head.normalize else m
                s = m @ x
                p = (s == s.max()).double() if math.isinf(temperature) else (temperature * s).exp()
                a = (p / p.sum() * x).sum(1)
                logits[b, c] += m @ (x.mean(1) + head.lam * a)
    return logits


@pytest.mark.parametrize(
    ("options", "logit"),
    [
        ({"lam": 0.1}, 1.0389),
        ({"lam": 0.1, "temperatures": (math.inf,)}, 1.0733),
        ({"heads": 4, "lam": 0.5}, 6.2087),
        ({"lam": 1.0, "temperatures": (1.0,)}, 0.93333 + 1.0553),
        ({"lam": 1.0, "temperatures": (2.0,)}, 0.93333 + 1.1723),
        ({"lam": 1.0, "temperatures": (4.0,)}, 0.93333 + 1.3231),
        ({"lam": 0.0}, 0.93333),
        ({"lam": 0.0, "normalize": False}, 5 * 0.93333),
    ],
)
def test_golden_numbers(options: dict[str, object], logit: float) -> None:
    assert golden_head(**options)(GOLDEN).item() == pytest.approx(logit, abs=1e-4)


def test_spatial_only_is_the_attention_part_alone() -> None:
    head = SpatialAttention(2, 1)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[[3.0, 4.0]]]))
    assert head(GOLDEN).item() == pytest.approx(1.0553, abs=1e-4)


def test_scores_of_the_golden_case() -> None:
    torch.testing.assert_close(golden_head().scores(GOLDEN).flatten(), torch.tensor([0.6, 0.8, 1.4]))


@pytest.mark.parametrize("heads", list(TEMPERATURES))
@pytest.mark.parametrize("normalize", [True, False])
def test_equals_the_paper_head_by_head(heads: int, normalize: bool) -> None:
    torch.manual_seed(heads)
    head = CSRA(16, 5, heads, lam=0.7, normalize=normalize)
    features = torch.randn(3, 16, 4, 3)
    torch.testing.assert_close(head(features).double(), by_head(head, features), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "temperatures", [(math.inf, 0.5, math.inf, 3.0), (math.inf, math.inf), torch.tensor([0.5, 99.0])]
)
def test_any_list_of_temperatures_in_any_order(temperatures: Sequence[float]) -> None:
    torch.manual_seed(0)
    head = CSRA(8, 3, lam=0.3, temperatures=temperatures)
    features = torch.randn(2, 8, 3, 3)
    assert head.weight.shape == (len(temperatures), 3, 8)
    torch.testing.assert_close(head(features).double(), by_head(head, features), rtol=1e-5, atol=1e-5)


def test_zero_lambda_is_average_pooling_of_the_same_classifier() -> None:
    torch.manual_seed(0)
    head = CSRA(32, 7, lam=0.0)
    features = torch.randn(4, 32, 5, 5)
    unit = head.weight[0] / head.weight[0].norm(dim=1, keepdim=True)
    torch.testing.assert_close(head(features), features.mean((2, 3)) @ unit.T, rtol=0, atol=1e-5)


def test_one_head_at_infinite_temperature_is_figure_1_of_the_same_scores() -> None:
    torch.manual_seed(0)
    head = CSRA(8, 3, lam=0.2, temperatures=(math.inf,))
    scores = head.location_scores(features := torch.randn(2, 8, 4, 4))
    torch.testing.assert_close(head(features), scores.mean(-1) + 0.2 * scores.amax(-1))


def test_holds_heads_times_labels_times_channels_numbers_and_nothing_else() -> None:
    head = CSRA(2048, 80, 4)
    assert {key: tuple(value.shape) for key, value in head.state_dict().items()} == {"weight": (4, 80, 2048)}
    assert sum(p.numel() for p in head.parameters()) == 655_360


def test_starts_like_a_one_by_one_convolution() -> None:
    torch.manual_seed(0)
    rows = CSRA(2048, 80, 2).weight.flatten(0, 1)
    assert rows.abs().max() <= 1 / math.sqrt(2048)
    assert rows.norm(dim=1).mean().item() == pytest.approx(1 / math.sqrt(3), abs=0.005)


@settings(max_examples=30, deadline=None)
@given(
    temperatures=st.lists(st.sampled_from([0.1, 1.0, 7.0, 50.0, math.inf]), min_size=1, max_size=4),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_attention_is_a_distribution_over_locations(
    temperatures: list[float], size: tuple[int, int], scale: float
) -> None:
    head = CSRA(3, 2, temperatures=temperatures)
    maps = head.attention(torch.randn(2, 3, *size) * scale)
    assert maps.shape == (2, len(temperatures), 2, *size)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum((-2, -1)), torch.ones(2, len(temperatures), 2))


def test_infinite_temperature_attends_to_the_first_maximum() -> None:
    head = golden_head(temperatures=(math.inf,))
    features = torch.cat([GOLDEN, GOLDEN], dim=-1)
    assert head.attention(features).flatten().tolist() == [0, 0, 1, 0, 0, 0]


def test_gradient_is_orthogonal_to_the_classifier_and_shrinks_with_its_length() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 16, 3, 3, dtype=torch.float64)
    head = CSRA(16, 4, 2).double()
    tripled = copy.deepcopy(head)
    with torch.no_grad():
        tripled.weight.mul_(3)
    for module in (head, tripled):
        module(features).square().sum().backward()
    assert head.weight.grad is not None
    assert (head.weight * head.weight.grad).sum(-1).abs().max() < 1e-12
    torch.testing.assert_close(tripled.weight.grad * 3, head.weight.grad)  # type: ignore[operator]


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    head = CSRA(4, 2, 4, lam=0.5).double()
    features = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(head, (features,))


def test_a_zero_classifier_gives_zero_and_a_finite_gradient() -> None:
    head = CSRA(4, 2)
    torch.nn.init.zeros_(head.weight)
    logits = head(torch.randn(1, 4, 2, 2))
    logits.sum().backward()
    assert (logits == 0).all()
    assert torch.isfinite(head.weight.grad).all()  # type: ignore[arg-type]


def test_pools_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    head = CSRA(64, 5, 4, lam=0.5)
    features = torch.randn(2, 64, 7, 7)
    with torch.autocast("cpu", torch.bfloat16):
        scores, maps, logits = head.scores(features), head.attention(features), head(features)
    assert {scores.dtype, maps.dtype, logits.dtype} == {torch.float32}
    torch.testing.assert_close(logits, head.head_logits(scores).sum(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(maps.sum((-2, -1)), torch.ones(2, 4, 5), rtol=1e-6, atol=1e-6)


def test_takes_any_memory_format_and_number_of_images() -> None:
    head = CSRA(8, 3, 2)
    features = torch.randn(2, 8, 5, 4)
    assert head(features[:0]).shape == (0, 3)
    assert head.attention(features[:0]).shape == (0, 2, 3, 5, 4)
    torch.testing.assert_close(head(features.to(memory_format=torch.channels_last)), head(features))


@pytest.mark.parametrize("name", list(HEADS))
def test_dropout_is_one_channel_mask_for_all_locations(name: str) -> None:
    torch.manual_seed(0)
    head = create_head(name, 64, 3, dropout=0.5, heads=1, lam=0.1, temperatures=None, normalize=True).train()
    dropped = head.dropout(torch.ones(4, 64, 3, 3)).flatten(2)
    assert (dropped == dropped[..., :1]).all()
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    features = torch.randn(4, 64, 3, 3)
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))


def test_average_head_is_pooling_and_a_biased_linear_layer() -> None:
    torch.manual_seed(0)
    head = AveragePooling(16, 5)
    features = torch.randn(2, 16, 3, 4)
    expected = torch.nn.functional.linear(features.mean((2, 3)), head.linear.weight, head.linear.bias)
    torch.testing.assert_close(head(features), expected)
    scores = head.location_scores(features)
    assert scores.shape == (2, 5, 12)
    torch.testing.assert_close(scores.mean(-1), expected)
    location = features[1, :, 2, 3] @ head.linear.weight[4] + head.linear.bias[4]
    torch.testing.assert_close(scores[1, 4, 11], location)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"heads": 3}, "1, 2, 4, 6, 8"),
        ({"temperatures": ()}, "one number per head"),
        ({"heads": 2, "temperatures": (1.0,)}, "heads = 2, but the number of temperatures is 1"),
        ({"temperatures": (0.0,)}, "greater than 0"),
        ({"temperatures": (math.nan,)}, "greater than 0"),
        ({"temperatures": 1.0}, "one number per head"),
        ({"dropout": 1.5}, "dropout = 1.5"),
        ({"lam": -0.1}, "lam = -0.1"),
        ({"lam": math.inf}, "lam = inf"),
    ],
)
def test_refuses_what_makes_no_sense(options: dict[str, object], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        CSRA(4, 2, **options)  # type: ignore[arg-type]


def test_features_of_another_width_are_told_with_both_shapes() -> None:
    with pytest.raises(ModelError, match=r"\(2, 5, 3, 3\), but layout='nchw' requires \(B, 4, h, w\)"):
        mlrec.CSRA(4, 2)(torch.zeros(2, 5, 3, 3))


def test_unknown_head_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="average, gcn, attention-pool, ml-decoder, q2l; did you mean 'csra'"):
        create_head("csar", 4, 2)


@pytest.mark.parametrize("name", ["csra", "spatial"])
def test_scale_multiplies_logits_and_location_scores_and_nothing_else(name: str) -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 5, 3, 3)
    plain, scaled = create_head(name, 5, 4, heads=1), create_head(name, 5, 4, heads=1, scale=6.0)
    scaled.load_state_dict(plain.state_dict())
    torch.testing.assert_close(scaled(features), 6 * plain(features))
    torch.testing.assert_close(scaled.location_scores(features), 6 * plain.location_scores(features))
    assert isinstance(plain, CSRA)
    assert isinstance(scaled, CSRA)
    torch.testing.assert_close(scaled.attention(features), plain.attention(features))


def test_temperatures_are_exact_after_conversions() -> None:
    head, features = CSRA(2, 3, temperatures=[0.3, math.inf, 2.7], lam=0.7), torch.randn(2, 2, 3, 3)
    expected = by_head(head, features)
    torch.testing.assert_close(copy.deepcopy(head).double()(features.double()), expected, rtol=0, atol=1e-12)
    rounded = copy.deepcopy(head).half().float()
    assert torch.equal(rounded.attended_scores(head.scores(features)), head.attended_scores(head.scores(features)))
    with torch.device("meta"):
        other = CSRA(2, 3, temperatures=[0.3, math.inf, 2.7], lam=0.7)
    other = other.to_empty(device="cpu")
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(features), head(features))
