"""Heads that pool locations with queries: attention pooling, ML-Decoder and Query2Label.

Shapes: B images, d channels, h × w locations, N = h·w, C labels, decoder width e. Heads with queries have no scores at
locations and therefore do not support λ at test time. Heat maps of heads with queries show `label_attention`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.ml_decoder import MLDecoder as TimmMLDecoder
from torch import Tensor, nn
from torch.nn.functional import relu

from mlrec.models.csra import at_least_float32, channel_dropout, check_features
from mlrec.utils.errors import ModelError

ATTENTION_HEADS = (8, 6, 4, 3, 2, 1)  # numbers of attention heads; the largest number that divides the width is used


class _QueryHead(nn.Module):
    """Base class for the heads in this module, which use features (B, d, h, w) as tokens."""

    def __init__(self, in_features: int, dropout: float) -> None:
        super().__init__()
        self.in_features = in_features
        self.dropout = channel_dropout(dropout)

    def tokens(self, features: Tensor) -> Tensor:
        """Return the locations as tokens (B, N, d), with channel dropout during training."""
        check_features(features, self.in_features)
        tokens: Tensor = self.dropout(features).flatten(2).transpose(1, 2)
        return tokens

    def location_scores(self, features: Tensor) -> Tensor:  # noqa: ARG002 - as all heads
        """Raise ModelError, because these heads have no scores at locations."""
        raise ModelError(
            f"{type(self).__name__} has no scores for individual locations, so λ cannot be changed; use a csra head"
        )

    def contributions(self, features: Tensor) -> Tensor:  # noqa: ARG002 - as all heads
        """Raise ModelError, because the logit is not a sum over locations."""
        raise ModelError(
            f"the logit of {type(self).__name__} is not a sum over locations; use the method label_attention instead"
        )


class AttentionPooling(_QueryHead):
    """Attention pooling with one learned query, followed by a linear classifier with bias.

    The pooling is timm's `AttentionPoolLatent`, as in SigLIP (Zhai et al., ICCV 2023, arXiv 2303.15343): multi-head
    attention, a projection, and an MLP. All labels share the attention.

    Args:
        in_features: Number of feature channels d.
        num_labels: Number of labels C.
        dropout: Fraction of feature channels dropped in training, with one mask per image for all locations.
        decoder_dim: Width to which the features are projected before pooling [default: d, without a projection]. The
            pooling layer has about 12 · width² parameters.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("dropout", "decoder_dim")

    def __init__(
        self, in_features: int, num_labels: int, *, dropout: float = 0.0, decoder_dim: int | None = None
    ) -> None:
        super().__init__(in_features, dropout)
        width = decoder_dim or in_features
        self.project = nn.Linear(in_features, width) if decoder_dim else nn.Identity()
        self.pool = AttentionPoolLatent(width, num_heads=_attention_heads(width), norm_layer=nn.LayerNorm)
        self.linear = nn.Linear(width, num_labels)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits (B, C) of `features` (B, d, h, w)."""
        return at_least_float32(self.linear(self.pool(self.project(self.tokens(features)))))

    def label_attention(self, features: Tensor) -> Tensor:
        """Compute the attention of the query, averaged over heads; shape (B, C, N).

        The attention is equal for all labels, and its sum over locations is 1.
        """
        tokens, pool = self.project(self.tokens(features)), self.pool
        batch, locations, width = tokens.shape
        query = pool.q(pool.latent).reshape(1, pool.num_heads, 1, pool.head_dim)
        keys = pool.kv(tokens)[..., :width].reshape(batch, locations, pool.num_heads, pool.head_dim)
        weights = (query * pool.scale @ keys.permute(0, 2, 3, 1)).softmax(-1)  # (B, heads, 1, N)
        return at_least_float32(weights.mean(1).expand(-1, self.linear.out_features, -1))


class MLDecoder(_QueryHead):
    """ML-Decoder (Ridnik et al., WACV 2023, arXiv 2111.12933) with fixed random queries.

    There is one query per group of labels. Each query attends to the locations. The modules are those of timm's
    `MLDecoder`: a projection to e channels, a decoder layer without self-attention, and one classifier per label. The
    classifier of a label is applied to the query output of its group. If there are at most `groups` labels, each label
    has a separate query. timm wraps the decoder layer in torch's `TransformerDecoder`. mlrec calls the layer directly,
    because `TransformerDecoder` expects a layer with self-attention.

    Args:
        in_features: Number of feature channels d.
        num_labels: Number of labels C.
        dropout: Fraction of feature channels dropped in training, with one mask per image for all locations.
        decoder_dim: Width e of the decoder, a multiple of 8 [default: 768, as published].
        groups: Number of queries K [default: 100, as published]. If C is smaller than K, there are C queries.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("dropout", "decoder_dim", "groups")

    def __init__(
        self,
        in_features: int,
        num_labels: int,
        *,
        dropout: float = 0.0,
        decoder_dim: int | None = None,
        groups: int = 100,
    ) -> None:
        super().__init__(in_features, dropout)
        width = decoder_dim or 768
        if width % 8:
            raise ModelError(f"decoder_dim = {width}: must be divisible by 8, the number of attention heads")
        self.num_labels = num_labels
        self.decoder: Any = TimmMLDecoder(num_labels, groups, width, in_features)  # type: ignore[no-untyped-call]

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits (B, C) of `features` (B, d, h, w)."""
        memory, queries = self._memory_and_queries(features)
        decoded = self.decoder.decoder.layers[0](queries, memory).transpose(0, 1)  # (B, K, e)
        logits = torch.einsum("bke,kel->bkl", decoded, self.decoder.duplicate_pooling).flatten(1)
        return at_least_float32(logits[:, : self.num_labels] + self.decoder.duplicate_pooling_bias)

    def label_attention(self, features: Tensor) -> Tensor:
        """Compute the attention of each label's query; shape (B, C, N).

        The attention is averaged over heads, and its sum over locations is 1.
        """
        layer = self.decoder.decoder.layers[0]
        memory, queries = self._memory_and_queries(features)
        _, weights = layer.multihead_attn(layer.norm1(queries + layer.dropout1(queries)), memory, memory)  # (B, K, N)
        group = torch.arange(self.num_labels, device=features.device) // self.decoder.duplicate_factor
        return at_least_float32(weights[:, group])

    def _memory_and_queries(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projected locations (N, B, e), and the queries (K, B, e), repeated for each image."""
        memory = relu(self.decoder.embed_standart(self.tokens(features))).transpose(0, 1)
        return memory, self.decoder.query_embed.weight[:, None].expand(-1, memory.shape[1], -1)


class Query2Label(_QueryHead):
    """Query2Label (Liu et al., arXiv 2107.10834), with one query per label.

    Each query attends to other queries and to the locations. The head consists of a projection to e channels with a
    sinusoidal position encoding, torch decoder layers, and one classifier with bias per label. Each decoder layer has
    self-attention between labels, attention to locations, and a feed-forward network of width 4e. The published model
    has an encoder layer before the decoder and uses e = 2048. This head has no encoder layer and a smaller default e,
    so that comparisons measure only the head.

    Args:
        in_features: Number of feature channels d.
        num_labels: Number of labels C.
        dropout: Fraction of feature channels dropped in training, with one mask per image for all locations.
        decoder_dim: Width e of the decoder, a multiple of 4 [default: 512].
        layers: Number of decoder layers [default: 2, as published].
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("dropout", "decoder_dim", "layers")

    def __init__(
        self,
        in_features: int,
        num_labels: int,
        *,
        dropout: float = 0.0,
        decoder_dim: int | None = None,
        layers: int = 2,
    ) -> None:
        super().__init__(in_features, dropout)
        width = decoder_dim or 512
        if width % 4:
            raise ModelError(f"decoder_dim = {width}: must be divisible by 4, as required by the position encoding")
        self.project = nn.Linear(in_features, width)
        self.queries = nn.Parameter(torch.empty(num_labels, width))
        layer = nn.TransformerDecoderLayer(width, _attention_heads(width), 4 * width, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers)
        self.weight = nn.Parameter(torch.empty(num_labels, width))
        self.bias = nn.Parameter(torch.zeros(num_labels))
        nn.init.normal_(self.queries)
        nn.init.uniform_(self.weight, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits (B, C) of `features` (B, d, h, w)."""
        memory = self._memory(features)
        decoded = self.decoder(self.queries.expand(len(memory), -1, -1), memory)  # (B, C, e)
        return at_least_float32((decoded * self.weight).sum(-1) + self.bias)

    def label_attention(self, features: Tensor) -> Tensor:
        """Compute the attention of each label's query in the last layer; shape (B, C, N).

        The attention is averaged over heads, and its sum over locations is 1.
        """
        memory = self._memory(features)
        decoded = self.queries.expand(len(memory), -1, -1)
        for layer in self.decoder.layers[:-1]:
            decoded = layer(decoded, memory)
        last: Any = self.decoder.layers[-1]
        decoded = last.norm1(decoded + last.dropout1(last.self_attn(decoded, decoded, decoded)[0]))
        return at_least_float32(last.multihead_attn(decoded, memory, memory)[1])

    def _memory(self, features: Tensor) -> Tensor:
        """Return the projected locations (B, N, e) with the position encoding added."""
        projected: Tensor = self.project(self.tokens(features))
        height, width = features.shape[-2:]
        code = position_code(height, width, projected.shape[-1], projected.device)
        return projected + code.to(projected.dtype)


def position_code(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Return the sinusoidal position encoding (h·w, e) of the locations in a grid.

    The first half of the channels encodes the row, and the second half encodes the column. The encoding is computed on
    `device`, because copying it from the CPU in each step would synchronize the device.

    Example:
        >>> position_code(2, 3, 8).shape
        torch.Size([6, 8])
    """
    frequencies = 10000.0 ** (-torch.arange(0, channels // 2, 2, device=device) / (channels // 2))
    codes = []
    for length in (height, width):
        angles = torch.arange(length, device=device)[:, None] * frequencies
        codes.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    rows = codes[0][:, None].expand(-1, width, -1)
    columns = codes[1][None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def _attention_heads(width: int) -> int:
    return next(heads for heads in ATTENTION_HEADS if width % heads == 0)
