"""Class-specific residual attention (CSRA; Zhu and Wu, ICCV 2021).

Source: Zhu and Wu, "Residual Attention", ICCV 2021, equations 2 to 13.

Shapes: B images, d channels, h × w locations, N = h·w, C labels, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize

from mlrec.config import resolve_temperatures
from mlrec.utils.errors import ModelError, nearest

LAYOUTS = ("nchw", "nhwc", "tokens")


class CSRA(nn.Module):
    """Classification head with class-specific residual attention (CSRA).

    The logit of a label is its mean score over locations plus λ times its attention-weighted mean score.

    Each head has a separate classifier m, normalized to unit length, and a separate temperature T. The attention is
    class-specific because it is computed for each label. The following equations apply to one label and one head, with
    features x_j at N locations j.

    ::

        s_j = m·x_j                                  the score of the label at location j
        p_j = exp(T s_j) / Σ_k exp(T s_k)            Eq. 2     attention; for T = ∞ one-hot at the maximum (Eq. 9)
        a   = Σ_j p_j x_j                            Eq. 3     class-specific feature
        g   = 1/N Σ_j x_j                            Eq. 4     class-agnostic feature
        f   = g + λ a                                Eq. 5     residual attention
        ŷ_h = m·f = 1/N Σ_j s_j + λ Σ_j p_j s_j      Eq. 6-8   the logit of a head: scores are pooled, not features
        ŷ   = Σ_h ŷ_h                                Eq. 13    heads are added, not averaged

    The scores of all heads are computed in a single matrix product. Pooling is computed in float32 or float64, even
    under autocast.

    Args:
        in_features: Number of feature channels d.
        num_labels: Number of labels C.
        heads: Number of heads H [default: the number of `temperatures` if they are set, otherwise 1].
        lam: Weight λ ≥ 0 of the attention; with λ = 0, the head is average pooling with a normalized classifier
            (Table 6).
        normalize: Whether to normalize each classifier to unit length (compared in Table 8).
        temperatures: Temperature T > 0 of each head; with `math.inf`, only the location with the maximum score has
            attention [default: the paper's temperatures for H].
        dropout: Fraction of feature channels dropped in training, with one mask per image for all locations.
        scale: Scale factor of the logits. Logits grow with H because the heads are summed (Eq. 13). A single head with
            scale H has logits of the same magnitude as H heads, so the effect of the scale can be measured separately.
        layout: Shape of the features: "nchw" (B, d, h, w), as in convolutional networks; "nhwc" (B, h, w, d), as in
            timm's Swin; or "tokens" (B, N, d), as in vision transformers.
        prefix_tokens: Number of class and register tokens before the location tokens; these tokens are ignored.

    Attributes:
        weight: Weights (H, C, d) of the classifiers, in the order of `temperatures`. The head has no other parameters.

    Raises:
        ModelError: The numbers of `heads` and `temperatures` differ, the paper has no temperatures for H, a value is
            out of range, or the features do not have the shape of `layout`.

    Example:
        >>> head = CSRA(in_features=8, num_labels=3, heads=2, lam=0.5)
        >>> features = torch.ones(4, 8, 7, 7)
        >>> head(features).shape, head.attention(features).shape
        (torch.Size([4, 3]), torch.Size([4, 2, 3, 7, 7]))
        >>> CSRA(in_features=8, num_labels=3, layout="tokens", prefix_tokens=1)(torch.ones(4, 1 + 49, 8)).shape
        torch.Size([4, 3])
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("heads", "lam", "normalize", "temperatures", "dropout", "scale")
    _temperature: Tensor

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
        layout: str = "nchw",
        prefix_tokens: int = 0,
    ) -> None:
        super().__init__()
        if in_features < 1 or num_labels < 1:
            raise ModelError(f"in_features = {in_features}, num_labels = {num_labels}: both must be at least 1")
        if not (math.isfinite(lam) and lam >= 0):
            raise ModelError(f"lam = {lam}: expected a finite number >= 0")
        self.temperatures = resolve_temperatures(heads, temperatures)
        self.lam = float(lam)
        self.normalize = normalize
        self.scale = float(scale)
        self.dropout = channel_dropout(dropout)
        self.layout = FeatureLayout(in_features, layout, prefix_tokens)
        self.weight = nn.Parameter(torch.empty(len(self.temperatures), num_labels, in_features))
        # (H, 1, 1). A buffer is moved with the module, so that it is not copied to the device in each step; not saved.
        self.register_buffer("_temperature", torch.tensor(self.temperatures)[:, None, None], persistent=False)
        self.reset_parameters()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Convert the head, but never round the temperatures, and restore them after `to_empty`."""
        module: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        values = torch.tensor(self.temperatures, dtype=dtype, device=self.weight.device)
        self._temperature = values[:, None, None]
        return module

    def reset_parameters(self) -> None:
        """Initialize the classifiers from U(-1/√d, 1/√d), as in a 1×1 convolution.

        If `normalize` is True, the norm of a classifier does not change the scores, but determines the effective
        learning rate.
        """
        nn.init.kaiming_uniform_(self.weight.flatten(0, 1), a=math.sqrt(5))

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits (B, C) of `features`, which have the shape of `layout`."""
        scores = self.scores(features)  # s = m·x
        logits = self.head_logits(scores)  # Eq. 8
        return logits.sum(1) * self.scale  # Eq. 13

    def scores(self, features: Tensor) -> Tensor:
        """Compute the scores s = m·x of each head and label at each location; shape (B, H, C, N)."""
        features = self.layout.to_nchw(features)
        classifiers: Tensor = self.weight
        if self.normalize:
            classifiers = normalize(self.weight, dim=-1)
        # A 1×1 convolution multiplies by the classifiers of all heads, and reads any memory format without a copy.
        scores = conv2d(self.dropout(features), classifiers.flatten(0, 1)[..., None, None])
        return at_least_float32(scores.reshape(-1, *self.weight.shape[:2], math.prod(features.shape[-2:])))

    def head_logits(self, scores: Tensor) -> Tensor:
        """Compute the logits (B, H, C) of each head from `scores` (B, H, C, N); see Eq. 8."""
        average = scores.mean(-1)  # m·g, Eq. 4
        if not self.lam:
            return average
        return average + self.lam * self.attended_scores(scores)  # m·(g + λa), Eq. 5

    def attended_scores(self, scores: Tensor) -> Tensor:
        """Compute the attended scores m·a = Σ_j p_j s_j (B, H, C) from `scores` (B, H, C, N); see Eq. 2 and 3."""
        parts = []
        for heads, maximum in _head_groups(self.temperatures):
            if maximum:
                parts.append(scores[:, heads].max(-1).values)  # p is one-hot, Eq. 9
            else:
                parts.append((self._softmax(scores, heads) * scores[:, heads]).sum(-1))
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts, dim=1)

    def attention(self, features: Tensor) -> Tensor:
        """Compute the attention p (Eq. 2) of shape (B, H, C, h, w), whose sum over locations is 1.

        For T = ∞, the attention is one-hot at the first maximum. With the layout "tokens", the grid is unknown, and the
        shape is (B, H, C, N).
        """
        scores = self.scores(features)
        return self._attention(scores).reshape(*scores.shape[:3], *self.layout.locations(features))

    def contributions(self, features: Tensor) -> Tensor:
        """Compute the contribution Σ_h (1/N + λ p_hj) s_hj of each location j, multiplied by `scale`.

        The shape is (B, C, N); the sum over j is the logit.
        """
        scores = self.scores(features)
        return (self.location_weights(scores) * scores).sum(1) * self.scale

    def location_weights(self, scores: Tensor) -> Tensor:
        """Compute the weight 1/N + λ p_j of each score in the logit of the head; shape (B, H, C, N)."""
        return 1 / scores.shape[-1] + self.lam * self._attention(scores)

    def location_scores(self, features: Tensor) -> Tensor:
        """Compute the scores (B, C, N), summed over heads and multiplied by `scale`.

        The mean over locations is the logit at λ = 0.
        """
        return self.scores(features).sum(1) * self.scale

    def _attention(self, scores: Tensor) -> Tensor:
        """Compute the attention (B, H, C, N); see Eq. 2 and 9."""
        parts = []
        for heads, maximum in _head_groups(self.temperatures):
            parts.append(_one_hot_at_maximum(scores[:, heads]) if maximum else self._softmax(scores, heads))
        return torch.cat(parts, dim=1)

    def _softmax(self, scores: Tensor, heads: slice) -> Tensor:
        """Compute softmax(T·s) over locations for a slice of heads, all with finite T."""
        scores = scores[:, heads]
        if any(t != 1.0 for t in self.temperatures[heads]):  # saves a product in the common case of one head
            scores = scores * self._temperature[heads].to(scores.dtype)
        return torch.softmax(scores, dim=-1)

    def extra_repr(self) -> str:
        """Describe the head for `print`."""
        heads, labels, channels = self.weight.shape
        return f"{channels}, {labels}, heads={heads}, lam={self.lam:g}, normalize={self.normalize}"


class SpatialAttention(CSRA):
    """CSRA head without the class-agnostic feature (row "spatial only" in Table 6); λ is not used."""

    OPTIONS = ("heads", "normalize", "temperatures", "dropout", "scale")

    def head_logits(self, scores: Tensor) -> Tensor:
        """Compute the logits m·a of each head; shape (B, H, C)."""
        return self.attended_scores(scores)

    def location_weights(self, scores: Tensor) -> Tensor:
        """Compute the weight p_j of each score in the logit of the head; shape (B, H, C, N)."""
        return self._attention(scores)


def channel_dropout(fraction: float) -> nn.Dropout2d:
    """Create a dropout layer for feature channels, with one mask per image.

    Raises:
        ModelError: `fraction` is not from 0 to 1.
    """
    if not 0 <= fraction <= 1:
        raise ModelError(f"dropout = {fraction}: expected a fraction of the channels, from 0 to 1")
    return nn.Dropout2d(fraction)


@dataclass(frozen=True)
class FeatureLayout:
    """Shape of the features that a head accepts.

    Attributes:
        channels: Number of feature channels d.
        layout: Name of the layout, one of `LAYOUTS`.
        prefix_tokens: Number of tokens before the location tokens; 0 unless the layout is "tokens".

    Raises:
        ModelError: The layout is unknown or does not support prefix tokens, or `prefix_tokens` is negative.
    """

    channels: int
    layout: str = "nchw"
    prefix_tokens: int = 0

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            known = ", ".join(LAYOUTS)
            raise ModelError(f"layout = '{self.layout}': expected one of {known}{nearest(self.layout, LAYOUTS)}")
        if self.prefix_tokens < 0 or (self.prefix_tokens and self.layout != "tokens"):
            raise ModelError(
                f"prefix_tokens = {self.prefix_tokens}: must be at least 0, and must be 0 unless layout='tokens'"
            )

    def to_nchw(self, features: Tensor) -> Tensor:
        """Return `features` as a view of shape (B, d, h, w); for tokens, the shape is (B, d, N, 1).

        Raises:
            ModelError: The features do not have the shape of the layout.
        """
        self._check(features)
        if self.layout == "nhwc":
            return features.permute(0, 3, 1, 2)
        if self.layout == "tokens":
            return features[:, self.prefix_tokens :].transpose(1, 2).unsqueeze(-1)
        return features

    def locations(self, features: Tensor) -> tuple[int, ...]:
        """Return the shape of the grid of locations in `features`: (h, w), or (N,) for tokens."""
        if self.layout == "nhwc":
            return tuple(features.shape[1:3])
        if self.layout == "tokens":
            return (features.shape[1] - self.prefix_tokens,)
        return tuple(features.shape[2:])

    def _check(self, features: Tensor) -> None:
        shape, d = tuple(features.shape), self.channels
        if not _fits(features, self.layout, d):  # compare other layouts only now: exported models have dynamic sizes
            expected = {"nchw": f"(B, {d}, h, w)", "nhwc": f"(B, h, w, {d})", "tokens": f"(B, N, {d})"}[self.layout]
            fitting = [layout for layout in LAYOUTS if _fits(features, layout, d)]
            other = "; pass features of the expected shape"
            if fitting:
                other = f"; use layout='{fitting[0]}' for this shape"
            raise ModelError(f"features have shape {shape}, but layout='{self.layout}' requires {expected}{other}")
        if self.layout == "tokens" and shape[1] <= self.prefix_tokens:
            raise ModelError(
                f"features have shape {shape}, so no location tokens remain after {self.prefix_tokens} prefix tokens; "
                "use a smaller prefix_tokens"
            )


def _fits(features: Tensor, layout: str, channels: int) -> bool:
    """Return whether the number of dimensions and the number of channels match a layout."""
    ndim, axis = {"nchw": (4, 1), "nhwc": (4, 3), "tokens": (3, 2)}[layout]
    return features.ndim == ndim and features.shape[axis] == channels


def check_features(features: Tensor, channels: int) -> None:
    """Raise ModelError unless `features` have the shape (B, channels, h, w)."""
    FeatureLayout(channels).to_nchw(features)


def at_least_float32(values: Tensor) -> Tensor:
    """Convert a half-precision tensor to float32; other tensors are returned unchanged."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _head_groups(temperatures: Sequence[float]) -> list[tuple[slice, bool]]:
    """Group adjacent heads with finite or infinite T as pairs (slice of heads, whether T is infinite).

    Indexing the scores with a slice of adjacent heads returns a view; a list of heads would require a copy.
    """
    groups, start = [], 0
    for infinite, members in groupby(temperatures, key=math.isinf):
        stop = start + len(list(members))
        groups.append((slice(start, stop), infinite))
        start = stop
    return groups


def _one_hot_at_maximum(scores: Tensor) -> Tensor:
    """Return 1 at the first maximum over locations and 0 at all other locations."""
    first = scores.max(-1, keepdim=True).indices
    return torch.zeros_like(scores).scatter_(-1, first, 1.0)
