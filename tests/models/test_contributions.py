"""What each location adds to the logit adds up to the logit, whatever the head; and attention says where."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mlrec.models.classifier import HEADS, create_head
from mlrec.models.csra import CSRA

CASES = [
    ("csra", {"heads": 1, "lam": 0.5}),
    ("csra", {"heads": 6, "lam": 0.4}),
    ("csra", {"heads": 2, "lam": 0.0}),
    ("csra", {"heads": 4, "lam": 0.3, "normalize": False, "scale": 3.0}),
    ("spatial", {"heads": 2}),
    ("average", {}),
    ("gcn", {"pooling": "max"}),
    ("gcn", {"pooling": "average"}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_contributions_sum_to_the_logit(name: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    head = create_head(name, 24, 5, **options).eval()
    features = torch.randn(3, 24, 4, 7)
    maps = head.contributions(features)
    assert maps.shape == (3, 5, 28)
    logits = head(features)
    assert float((maps.sum(-1) - logits).detach().abs().max()) <= 1e-5 * float(logits.detach().abs().max())


def test_every_head_is_tested() -> None:
    assert {name for name, _ in CASES} == set(HEADS) - {"attention-pool", "ml-decoder", "q2l"}  # see test_query_heads


def test_the_formula_read_literally() -> None:
    """c_k = Σ_h (1/N + λ p_hk) m_h·x_k, location by location in float64 by numpy."""
    torch.manual_seed(1)
    head = CSRA(6, 2, lam=0.7, temperatures=[1.0, 3.0, math.inf]).double().eval()
    x = torch.randn(1, 6, 2, 3, dtype=torch.float64)
    vectors = x.numpy().reshape(6, 6).T  # a location a row
    expected = np.zeros((2, 6))
    for degree, of_head in zip((1.0, 3.0, math.inf), head.weight.detach().numpy(), strict=True):
        for label, weight in enumerate(of_head):
            scores = vectors @ (weight / np.linalg.norm(weight))
            p = np.eye(6)[scores.argmax()] if math.isinf(degree) else np.exp(degree * scores)
            expected[label] += (1 / 6 + 0.7 * p / p.sum()) * scores
    np.testing.assert_allclose(head.contributions(x).detach().numpy()[0], expected, atol=1e-12)


def test_a_channel_counts_where_its_maximum_lies() -> None:
    head = create_head("gcn", 2, 2, pooling="max")
    features = torch.tensor([[[[5.0, 1.0]], [[0.0, 2.0]]]])  # channel 0 peaks left, channel 1 right
    weights = head.classifiers()
    expected = torch.stack([5 * weights[:, 0], 2 * weights[:, 1]], dim=1)
    torch.testing.assert_close(head.contributions(features)[0], expected)
