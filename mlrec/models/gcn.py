"""The `gcn` head: classifiers made from the graph of labels. ML-GCN, Chen et al., CVPR 2019, Eq. 1-9."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from mlrec.datasets.manifest import POSITIVE
from mlrec.models.csra import FeatureLayout, at_least_float32, channel_dropout
from mlrec.utils.errors import ModelError, nearest

THRESHOLD, NEIGHBOURS, HIDDEN, SLOPE = 0.4, 0.2, 1024, 0.2  # τ and p of the paper, its hidden width, its LeakyReLU
POOLINGS = ("max", "average")


@dataclass(frozen=True, eq=False)
class LabelGraph:
    """Graph of C labels, and a vector for each label.

    Attributes:
        adjacency: (C, C) float32, see `adjacency`.
        words: (C, V) float32 word vectors, one per label.
    """

    adjacency: NDArray[np.float32]
    words: NDArray[np.float32]


class GraphConvolution(nn.Module):
    """Two graph convolutions over the labels give their classifiers; features are pooled before them.

    The rows of Â·f(Â·E·W1)·W2 are the classifiers, E the label vectors, f a LeakyReLU, Â the normalized adjacency.
    Features are pooled by their maximum as published, or by their average. `location_scores` are without pooling;
    Figure 1 on them (mean + λ·max) is our interpretation, because the paper does not describe it for this head.

    Args:
        in_features: Number of feature channels d.
        num_labels: Number of labels C.
        word_dim: Dimension V of the word vectors [default: C, for one-hot vectors].
        pooling: "max" or "average".
        dropout: Fraction of feature channels dropped in training, one mask per image for all locations.
        layout, prefix_tokens: Shape of the features, see `CSRA`.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("word_dim", "pooling", "dropout")
    adjacency: Tensor
    words: Tensor

    def __init__(
        self,
        in_features: int,
        num_labels: int,
        *,
        word_dim: int | None = None,
        pooling: str = "max",
        dropout: float = 0.0,
        layout: str = "nchw",
        prefix_tokens: int = 0,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ModelError(f"pooling = '{pooling}': there are {', '.join(POOLINGS)}{nearest(pooling, POOLINGS)}")
        self.pooling = pooling
        self.layout = FeatureLayout(in_features, layout, prefix_tokens)
        self.dropout = channel_dropout(dropout)
        self.register_buffer("adjacency", torch.eye(num_labels))
        self.register_buffer("words", torch.eye(num_labels, word_dim or num_labels))
        self.first = nn.Linear(word_dim or num_labels, HIDDEN, bias=False)
        self.second = nn.Linear(HIDDEN, in_features, bias=False)

    def set_graph(self, graph: LabelGraph) -> None:
        """Set the graph of the labels; it is saved with the weights."""
        for name, values in (("adjacency", graph.adjacency), ("words", graph.words)):
            own: Tensor = getattr(self, name)
            if own.shape != values.shape:
                raise ModelError(f"the graph's {name} have shape {values.shape}, expected {tuple(own.shape)}")
            own.copy_(torch.from_numpy(values))

    def classifiers(self) -> Tensor:
        """Compute the classifiers (C, d), one row per label."""
        degree = self.adjacency.sum(1).rsqrt()
        mixing = degree[:, None] * self.adjacency * degree
        hidden = leaky_relu(mixing @ self.first(self.words), SLOPE)
        rows: Tensor = mixing @ self.second(hidden)
        return rows

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits (B, C) of `features`, which have the shape of `layout`."""
        kept = self.dropout(self.layout.to_nchw(features))
        pooled = kept.amax((2, 3)) if self.pooling == "max" else kept.mean((2, 3))
        return at_least_float32(pooled @ self.classifiers().T)

    def location_scores(self, features: Tensor) -> Tensor:
        """Compute the classifiers' scores at each location, (B, C, N)."""
        locations = self.dropout(self.layout.to_nchw(features)).flatten(2)
        return at_least_float32(self.classifiers() @ locations)

    def contributions(self, features: Tensor) -> Tensor:
        """Compute what each location adds to the logit, (B, C, N); with max pooling, each channel's first maximum."""
        if self.pooling == "average":
            scores = self.location_scores(features)
            return scores / scores.shape[-1]
        kept = self.dropout(self.layout.to_nchw(features)).flatten(2)
        highest, place = kept.max(-1, keepdim=True)
        return at_least_float32(self.classifiers() @ torch.zeros_like(kept).scatter_(-1, place, highest))


def label_graph(targets: NDArray[np.int8], labels: Sequence[str], word_vectors: Path | str | None = None) -> LabelGraph:
    """Make the graph of a training split from `targets` (N, C) of 1, 0, -1; word vectors from a file, or one-hot."""
    if word_vectors is None:
        words = np.eye(len(labels), dtype=np.float32)
    else:
        from mlrec.models.word_vectors import read_vectors

        words = read_vectors(Path(word_vectors), labels)
    return LabelGraph(adjacency(targets), words)


def adjacency(targets: NDArray[np.int8]) -> NDArray[np.float32]:
    """The re-weighted adjacency (C, C) of `targets` (N, C), Eq. 6-8.

    P(j | i), the share of the samples with label i that have j too, counts where it is at least 0.4; the neighbours
    of i share a weight of p = 0.2, i itself has 1 - p. A label without neighbours keeps to itself.
    """
    positive = (targets == POSITIVE).astype(np.float64)
    together = positive.T @ positive
    conditional = together / np.maximum(np.diag(together), 1)[:, None]
    linked: NDArray[Any] = (conditional >= THRESHOLD).astype(np.float64)
    np.fill_diagonal(linked, 0)
    weighted: NDArray[np.float64] = NEIGHBOURS * linked / np.maximum(linked.sum(1, keepdims=True), 1)
    np.fill_diagonal(weighted, 1 - NEIGHBOURS)
    return weighted.astype(np.float32)
