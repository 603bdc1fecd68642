"""Class-specific residual attention: the module of the paper, Zhu and Wu, "Residual Attention", ICCV 2021, Eq. 2-13.

Shapes: B images, d channels, h × w locations, N = h·w, C labels, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize

from mlrec.temperatures import resolve_temperatures
from mlrec.utils.errors import ModelError


class CSRA(nn.Module):
    """Classify by the mean of each label's scores over locations plus λ times their attention-weighted mean.

    Head h has its own classifier m, normalised to unit length, and its own temperature T. With s_j = m·x_j the score
    of a label at location j (attention is per label, hence class-specific)::

        p_j = softmax_j(T·s_j)                       Eq. 2     for T = ∞ one-hot at the maximum, Eq. 9
        a   = Σ_j p_j x_j                            Eq. 3     the class-specific feature
        g   = 1/N Σ_j x_j                            Eq. 4     the class-agnostic feature
        f   = g + λ·a                                Eq. 5     the residual
        ŷ   = m·f = 1/N Σ_j s_j + λ Σ_j p_j s_j      Eq. 6-8   scores are pooled, features never built
        ŷ   = Σ_h ŷ_h                                Eq. 13    heads are added, not averaged

    All heads are one matrix product. Pooling is computed in float32 at least, also under autocast.

    Args:
        in_features: d.
        num_labels: C.
        heads: H; left out, it is the number of `temperatures`, or 1.
        lam: λ ≥ 0; 0 leaves average pooling of the same normalised classifier (Table 6).
        normalize: divide each classifier by its length (Table 8 compares).
        temperatures: T of each head, above 0, `math.inf` for the maximum; left out, the paper's for H.
        dropout: share of feature channels dropped in training, one mask per image shared by all locations.
        scale: factor of the logits. H heads are added (Eq. 13), so logits grow with H; one head of scale H has logits
            as large, and tells what the size of the logits alone is worth in training.

    Attributes:
        weight: (H, C, d), the heads in the order of `temperatures`; the only learnable numbers.

    Raises:
        ModelError: `heads` and `temperatures` disagree, no temperatures are known for H, or a value is out of range.

    Example:
        >>> csra = CSRA(in_features=8, num_labels=3, heads=2, lam=0.5)
        >>> features = torch.ones(4, 8, 7, 7)
        >>> csra(features).shape, csra.attention(features).shape
        (torch.Size([4, 3]), torch.Size([4, 2, 3, 7, 7]))
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("heads", "lam", "normalize", "temperatures", "dropout", "scale")
    _column: Tensor

    def __init__(
        self,
        in_features: int,
        num_labels: int,
        heads: int | None = None,
        lam: float = 0.1,
        normalize: bool = True,
        temperatures: Sequence[float] | None = None,
        *,
        dropout: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if in_features < 1 or num_labels < 1:
            raise ModelError(f"in_features = {in_features}, num_labels = {num_labels}: both must be at least 1")
        if not (math.isfinite(lam) and lam >= 0):
            raise ModelError(f"lam = {lam}: must be a finite number of at least 0")
        self.temperatures = resolve_temperatures(heads, temperatures)
        self.lam = float(lam)
        self.normalize = normalize
        self.scale = float(scale)
        self.dropout = channel_dropout(dropout)
        self.weight = nn.Parameter(torch.empty(len(self.temperatures), num_labels, in_features))
        # a buffer, so that no step waits for a copy to the device; not part of the state
        self.register_buffer("_column", torch.tensor(self.temperatures)[:, None, None], persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw as a 1×1 convolution does, U(-1/√d, 1/√d): the length of a row sets its effective learning rate."""
        nn.init.kaiming_uniform_(self.weight.flatten(0, 1), a=math.sqrt(5))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, C) of `features` (B, d, h, w)."""
        scores = self.scores(features)
        return self.fuse(scores).sum(1) * self.scale

    def fuse(self, scores: Tensor) -> Tensor:
        """Logits of each head (B, H, C) from `scores` (B, H, C, N), Eq. 8."""
        average = scores.mean(-1)
        return average + self.lam * self.attended(scores) if self.lam else average

    def attended(self, scores: Tensor) -> Tensor:
        """Σ_j p_j s_j, (B, H, C), of `scores` (B, H, C, N): the scores of the class-specific features, Eq. 3."""
        parts = [
            scores[:, run].max(-1).values if hard else (self._softmax(scores, run) * scores[:, run]).sum(-1)
            for run, hard in _runs(self.temperatures)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def scores(self, features: Tensor) -> Tensor:
        """Scores s = m·x, (B, H, C, N): that of each label at each location, for each head."""
        check_features(features, self.weight.shape[-1])
        weight = normalize(self.weight, dim=-1) if self.normalize else self.weight
        scores = conv2d(self.dropout(features), weight.flatten(0, 1)[..., None, None])
        return at_least_float32(scores.reshape(-1, *self.weight.shape[:2], math.prod(features.shape[-2:])))

    def attention(self, features: Tensor) -> Tensor:
        """Attention p of Eq. 2, (B, H, C, h, w), summing to 1 over locations; at T = ∞ one-hot at the first maximum."""
        scores = self.scores(features)
        return self._weights(scores).reshape(*scores.shape[:3], *features.shape[-2:])

    def contributions(self, features: Tensor) -> Tensor:
        """What each location adds to the logit, (B, C, N): c_k = Σ_h (1/N + λ p_hk) s_hk, whose sum is the logit."""
        scores = self.scores(features)
        return (self.shares(scores) * scores).sum(1) * self.scale

    def shares(self, scores: Tensor) -> Tensor:
        """The factor of each location's score in its head's logit, (B, H, C, N), of `scores` of that shape."""
        return 1 / scores.shape[-1] + self.lam * self._weights(scores)

    def location_scores(self, features: Tensor) -> Tensor:
        """Scores at each location, heads added, (B, C, N); their mean over locations is the logit at λ = 0."""
        return self.scores(features).sum(1) * self.scale

    def _weights(self, scores: Tensor) -> Tensor:
        """Attention of Eq. 2 and 9, (B, H, C, N)."""
        maps = [
            _one_hot_at_maximum(scores[:, run]) if hard else self._softmax(scores, run)
            for run, hard in _runs(self.temperatures)
        ]
        return torch.cat(maps, dim=1)

    def _softmax(self, scores: Tensor, run: slice) -> Tensor:
        scores = scores[:, run]
        if any(t != 1.0 for t in self.temperatures[run]):
            scores = scores * self._column[run].to(scores.dtype)
        return torch.softmax(scores, dim=-1)

    def extra_repr(self) -> str:
        """What `print` shows of the head."""
        heads, labels, channels = self.weight.shape
        return f"{channels}, {labels}, heads={heads}, lam={self.lam:g}, normalize={self.normalize}"


class SpatialAttention(CSRA):
    """CSRA without its average: f = a, λ unused (Table 6, the spatial-only row)."""

    OPTIONS = ("heads", "normalize", "temperatures", "dropout", "scale")

    def fuse(self, scores: Tensor) -> Tensor:
        """Logits of each head (B, H, C): the attention-weighted scores alone."""
        return self.attended(scores)

    def shares(self, scores: Tensor) -> Tensor:
        """The attention alone, (B, H, C, N)."""
        return self._weights(scores)


def channel_dropout(share: float) -> nn.Dropout2d:
    """Dropout of feature channels (B, d, h, w), one mask per image; raises ModelError unless 0 ≤ `share` ≤ 1."""
    if not 0 <= share <= 1:
        raise ModelError(f"dropout = {share}: a share of the channels, from 0 to 1")
    return nn.Dropout2d(share)


def check_features(features: Tensor, channels: int) -> None:
    """Raise ModelError unless `features` are (B, channels, h, w)."""
    if features.ndim != 4 or features.shape[1] != channels:
        raise ModelError(f"features have shape {tuple(features.shape)}, expected (B, {channels}, h, w)")


def at_least_float32(values: Tensor) -> Tensor:
    """`values`, half precision raised to float32: pooling and logits are never rounded to less."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _runs(temperatures: Sequence[float]) -> list[tuple[slice, bool]]:
    """Neighbouring heads of one kind, (heads, T is infinite): slices are views of the scores, never copies."""
    runs, start = [], 0
    for hard, run in groupby(temperatures, key=math.isinf):
        stop = start + len(list(run))
        runs.append((slice(start, stop), hard))
        start = stop
    return runs


def _one_hot_at_maximum(scores: Tensor) -> Tensor:
    first = scores.max(-1, keepdim=True).indices
    return torch.zeros_like(scores).scatter_(-1, first, 1.0)
