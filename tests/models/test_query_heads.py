"""Attention pooling, ML-Decoder and Query2Label, against forward passes written out in numpy float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mlrec.models.classifier import create_head
from mlrec.models.query_heads import position_code
from mlrec.utils.errors import ModelError

QUERY_HEADS = ("attention-pool", "ml-decoder", "q2l")
FEATURES = torch.randn(2, 24, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
TOKENS = FEATURES.flatten(2).transpose(1, 2).numpy()


def head_of(name: str, num_labels: int = 5, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    head = create_head(name, 24, num_labels, **options).double().eval()
    for parameter in head.parameters():  # biases and norms start at 0 and 1, which would hide their place
        parameter.data += 0.1 * torch.randn_like(parameter)
    return head


def array(parameter: torch.Tensor) -> np.ndarray:
    return parameter.detach().numpy()


def linear(x: np.ndarray, layer: torch.nn.Linear) -> np.ndarray:
    return x @ array(layer.weight).T + array(layer.bias)


def norm(x: np.ndarray, layer: torch.nn.LayerNorm) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps) * array(layer.weight) + array(layer.bias)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """One head after the other: outputs (Q, e) and the mean attention (Q, N)."""
    size = q.shape[1] // heads
    parts, maps = [], []
    for h in range(heads):
        own = slice(h * size, (h + 1) * size)
        weights = softmax(q[:, own] @ k[:, own].T / math.sqrt(size))
        parts.append(weights @ v[:, own])
        maps.append(weights)
    return np.concatenate(parts, 1), np.mean(maps, 0)


def multihead(
    query: np.ndarray, memory: np.ndarray, layer: torch.nn.MultiheadAttention
) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = array(layer.in_proj_weight), array(layer.in_proj_bias)
    e = weight.shape[1]
    q, k, v = (
        (x @ weight[i * e : (i + 1) * e].T + bias[i * e : (i + 1) * e]) for i, x in enumerate((query, memory, memory))
    )
    out, maps = attend(q, k, v, layer.num_heads)
    return linear(out, layer.out_proj), maps


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def slow_attention_pool(head) -> tuple[np.ndarray, np.ndarray]:
    pool, logits, maps = head.pool, [], []
    for tokens in TOKENS:
        if isinstance(head.project, torch.nn.Linear):
            tokens = linear(tokens, head.project)
        query = linear(array(pool.latent)[0], pool.q)
        keys, values = np.split(linear(tokens, pool.kv), 2, axis=1)
        pooled, attention = attend(query, keys, values, 8)
        pooled = linear(pooled, pool.proj)
        pooled = pooled + linear(gelu(linear(norm(pooled, pool.norm), pool.mlp.fc1)), pool.mlp.fc2)
        logits.append(linear(pooled, head.linear)[0])
        maps.append(np.repeat(attention, head.linear.out_features, 0))
    return np.array(logits), np.array(maps)


def slow_ml_decoder(head) -> tuple[np.ndarray, np.ndarray]:
    decoder, layer, logits, maps = head.decoder, head.decoder.decoder.layers[0], [], []
    for tokens in TOKENS:
        memory = np.maximum(linear(tokens, decoder.embed_standart), 0)
        x = norm(2 * array(decoder.query_embed.weight), layer.norm1)  # the published layer adds the query to itself
        attended, attention = multihead(x, memory, layer.multihead_attn)
        x = norm(x + attended, layer.norm2)
        x = norm(x + linear(np.maximum(linear(x, layer.linear1), 0), layer.linear2), layer.norm3)
        weight, bias = array(decoder.duplicate_pooling), array(decoder.duplicate_pooling_bias)
        size = weight.shape[2]
        labels = range(len(bias))
        logits.append([x[c // size] @ weight[c // size, :, c % size] + bias[c] for c in labels])
        maps.append([attention[c // size] for c in labels])
    return np.array(logits), np.array(maps)


def slow_q2l(head) -> tuple[np.ndarray, np.ndarray]:
    logits, maps = [], []
    for tokens in TOKENS:
        width = head.project.out_features
        memory = linear(tokens, head.project)
        for row in range(3):
            for column in range(4):
                for part, place in ((0, row), (width // 2, column)):
                    for k in range(width // 4):
                        angle = place / 10000 ** (4 * k / width)
                        memory[4 * row + column, part + k] += math.sin(angle)
                        memory[4 * row + column, part + width // 4 + k] += math.cos(angle)
        x = array(head.queries)
        for layer in head.decoder.layers:
            x = norm(x + multihead(x, x, layer.self_attn)[0], layer.norm1)
            attended, attention = multihead(x, memory, layer.multihead_attn)
            x = norm(x + attended, layer.norm2)
            x = norm(x + linear(np.maximum(linear(x, layer.linear1), 0), layer.linear2), layer.norm3)
        logits.append((x * array(head.weight)).sum(1) + array(head.bias))
        maps.append(attention)
    return np.array(logits), np.array(maps)


@pytest.mark.parametrize(
    ("name", "options", "slow"),
    [
        ("attention-pool", {}, slow_attention_pool),
        ("attention-pool", {"decoder_dim": 16}, slow_attention_pool),
        ("ml-decoder", {"decoder_dim": 16}, slow_ml_decoder),
        ("ml-decoder", {"decoder_dim": 16, "groups": 2}, slow_ml_decoder),  # groups of three labels, the last of two
        ("q2l", {"decoder_dim": 16, "layers": 1}, slow_q2l),
        ("q2l", {"decoder_dim": 16, "layers": 2}, slow_q2l),
    ],
)
def test_logits_and_attention_are_those_of_the_formulas(name: str, options: dict[str, int], slow) -> None:
    head = head_of(name, **options)
    logits, attention = slow(head)
    np.testing.assert_allclose(head(FEATURES).detach().numpy(), logits, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(head.label_attention(FEATURES).detach().numpy(), attention, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", QUERY_HEADS)
def test_every_trainable_parameter_gets_a_gradient(name: str) -> None:
    head = head_of(name).train()
    head(FEATURES).sigmoid().sum().backward()
    for key, parameter in head.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", QUERY_HEADS)
def test_half_precision_gives_float32_and_wrong_shapes_are_refused(name: str) -> None:
    head = head_of(name).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head(FEATURES.float()).dtype == torch.float32
    with pytest.raises(ModelError, match=r"requires \(B, 24, h, w\)"):
        head(torch.zeros(1, 8, 3, 3))
    with pytest.raises(ModelError, match="no scores for individual locations"):
        head.location_scores(FEATURES)
    with pytest.raises(ModelError, match="not a sum over locations"):
        head.contributions(FEATURES)


def test_widths_that_do_not_fit_are_refused() -> None:
    for name, width in (("ml-decoder", 12), ("q2l", 6)):
        with pytest.raises(ModelError, match=f"decoder_dim = {width}: must be divisible by"):
            create_head(name, 24, 5, decoder_dim=width)


def test_each_location_has_its_own_code() -> None:
    code = position_code(5, 7, 32)
    assert len(torch.unique(code, dim=0)) == 35
    assert torch.equal(code[:7, :16], code[:1, :16].expand(7, -1))  # locations of one row share the row's half
