"""The `gcn` head, which computes its classifiers from a label graph and word vectors.

The method is ML-GCN (Chen et al., CVPR 2019, Eq. 1 to 9). Word vectors are read from a text file in the GloVe format:
each line contains a word and the numbers of its vector.
"""

from __future__ import annotations

import re
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
from mlrec.utils.errors import ModelError, counted, nearest
from mlrec.utils.files import check_regular

THRESHOLD, NEIGHBOURS, HIDDEN, SLOPE = 0.4, 0.2, 1024, 0.2  # the paper's τ, p, hidden width, and LeakyReLU slope
POOLINGS = ("max", "average")


@dataclass(frozen=True, eq=False)
class LabelGraph:
    """Graph of C labels, with a vector for each label.

    Attributes:
        adjacency: Float32 adjacency matrix (C, C); see the function `adjacency`.
        words: Float32 word vectors (C, V), one per label.
    """

    adjacency: NDArray[np.float32]
    words: NDArray[np.float32]


class GraphConvolution(nn.Module):
    """Head that computes its classifiers with two graph convolutions over the labels (ML-GCN).

    The classifiers are the rows of Â·f(Â·E·W1)·W2, where E are the label vectors, f is a LeakyReLU, and Â is the
    normalized adjacency. Features are pooled with max pooling, as published, or with average pooling. `location_scores`
    are computed without pooling. The CSRA paper does not describe how to apply λ at test time (mean + λ·max, Figure 1)
    to this head; mlrec uses `location_scores`.

    Args:
        in_features: Number of feature channels d.
        num_labels: Number of labels C.
        word_dim: Dimension V of the word vectors [default: C, for one-hot vectors].
        pooling: Kind of pooling, "max" or "average".
        dropout: Fraction of feature channels dropped in training, with one mask per image for all locations.
        layout, prefix_tokens: Shape of the features; see `CSRA`.
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
            raise ModelError(f"pooling = '{pooling}': expected {' or '.join(POOLINGS)}{nearest(pooling, POOLINGS)}")
        self.pooling = pooling
        self.layout = FeatureLayout(in_features, layout, prefix_tokens)
        self.dropout = channel_dropout(dropout)
        self.register_buffer("adjacency", torch.eye(num_labels))
        self.register_buffer("words", torch.eye(num_labels, word_dim or num_labels))
        self.first = nn.Linear(word_dim or num_labels, HIDDEN, bias=False)
        self.second = nn.Linear(HIDDEN, in_features, bias=False)

    def set_graph(self, graph: LabelGraph) -> None:
        """Set the label graph, which is saved with the weights.

        Raises:
            ModelError: A matrix of the graph does not have the shape that this head requires.
        """
        for name, values in (("adjacency", graph.adjacency), ("words", graph.words)):
            own: Tensor = getattr(self, name)
            if own.shape != values.shape:
                raise ModelError(
                    f"label graph: '{name}' has shape {values.shape} instead of {tuple(own.shape)}; create the "
                    "graph for the labels of this model"
                )
            own.copy_(torch.from_numpy(values))

    def classifiers(self) -> Tensor:
        """Compute the classifiers (C, d), with one row per label."""
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
        """Compute the scores of the classifiers at each location; shape (B, C, N)."""
        locations = self.dropout(self.layout.to_nchw(features)).flatten(2)
        return at_least_float32(self.classifiers() @ locations)

    def contributions(self, features: Tensor) -> Tensor:
        """Compute the contribution of each location to the logit; shape (B, C, N).

        With max pooling, each channel contributes at the location of its first maximum.
        """
        if self.pooling == "average":
            scores = self.location_scores(features)
            return scores / scores.shape[-1]
        kept = self.dropout(self.layout.to_nchw(features)).flatten(2)
        highest, place = kept.max(-1, keepdim=True)
        return at_least_float32(self.classifiers() @ torch.zeros_like(kept).scatter_(-1, place, highest))


def label_graph(targets: NDArray[np.int8], labels: Sequence[str], word_vectors: Path | str | None = None) -> LabelGraph:
    """Create the label graph from training targets and word vectors; by default, the vectors are one-hot.

    `targets` is an (N, C) array of 1 (positive), 0 (negative) or -1 (unknown). `word_vectors` is a file in the GloVe
    format; see `read_vectors`.
    """
    if word_vectors is None:
        words = np.eye(len(labels), dtype=np.float32)
    else:
        words = read_vectors(Path(word_vectors), labels)
    return LabelGraph(adjacency(targets), words)


def adjacency(targets: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return the re-weighted adjacency matrix (C, C) for `targets` (N, C); see Eq. 6 to 8 of ML-GCN.

    P(j | i) is the fraction of the samples with label i that also have label j. Label j is a neighbor of label i if
    P(j | i) is at least 0.4. The neighbors of a label have a total weight of p = 0.2, and the label itself has the
    weight 1 - p. A label without neighbors is connected only to itself.
    """
    positive = (targets == POSITIVE).astype(np.float64)
    together = positive.T @ positive
    conditional = together / np.maximum(np.diag(together), 1)[:, None]
    linked: NDArray[Any] = (conditional >= THRESHOLD).astype(np.float64)
    np.fill_diagonal(linked, 0)
    weighted: NDArray[np.float64] = NEIGHBOURS * linked / np.maximum(linked.sum(1, keepdims=True), 1)
    np.fill_diagonal(weighted, 1 - NEIGHBOURS)
    return weighted.astype(np.float32)


def read_vectors(path: Path, labels: Sequence[str]) -> NDArray[np.float32]:
    """Read the word vectors of the labels from a file into an array (C, V).

    If a label with multiple words is not in the file, the mean of the vectors of its words is used. Case is ignored.

    Raises:
        ModelError: The file cannot be read, a number is invalid, vectors have different lengths, or some labels have no
            vector. The message lists the labels without a vector.
    """
    found = _lines_of(path, {name for label in labels for name in (label.casefold(), *_words(label))})
    lengths = {len(vector) for vector in found.values()}
    if len(lengths) > 1:
        raise ModelError(
            f"{path}: the vectors have different lengths ({', '.join(map(str, sorted(lengths)))}); all vectors must "
            "have the same length"
        )
    vectors = {label: _vector(label, found) for label in labels}
    absent = [label for label, vector in vectors.items() if vector is None]
    if absent:
        names = ", ".join(absent[:10])
        raise ModelError(
            f"{path}: {counted(len(absent), 'label has', 'labels have')} no vector ({names}); add a vector for each "
            "label, or omit --word-vectors to use one-hot vectors"
        )
    return np.array(list(vectors.values()), dtype=np.float32)


def _lines_of(path: Path, names: set[str]) -> dict[str, list[float]]:
    """Return the vectors for `names` in the file; the first line determines the vector length."""
    found: dict[str, list[float]] = {}
    size = 0
    check_regular(path, ModelError)
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                size = size or _trailing_numbers(line)
                name, *numbers = line.rstrip().rsplit(" ", size)
                if name.casefold() in names:
                    found[name.casefold()] = _floats(path, name, numbers)
    except OSError as error:
        raise ModelError(f"{path}: cannot read the file ({error.strerror or error}); check the path") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: the file is not UTF-8; save it as UTF-8") from error
    return found


def _floats(path: Path, name: str, texts: Sequence[str]) -> list[float]:
    try:
        numbers = [float(text) for text in texts]
    except ValueError as error:
        raise ModelError(
            f"{path}: '{name}': the vector contains values that are not numbers; correct the values"
        ) from error
    if not np.isfinite(numbers).all():
        raise ModelError(f"{path}: '{name}': the vector contains NaN or infinity; correct the values")
    return numbers


def _trailing_numbers(line: str) -> int:
    """Return the vector length, which is the count of numbers at the end of a line.

    The name at the start of the line may have any number of words.
    """
    count = 0
    for text in reversed(line.split()[1:]):
        try:
            float(text)
        except ValueError:
            break
        count += 1
    return count or 1


def _words(label: str) -> list[str]:
    return [word.casefold() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", label)]


def _vector(label: str, found: dict[str, list[float]]) -> list[float] | None:
    if label.casefold() in found:
        return found[label.casefold()]
    parts = _words(label)
    if not parts or any(word not in found for word in parts):
        return None
    mean: list[float] = np.mean([found[word] for word in parts], axis=0).tolist()
    return mean
