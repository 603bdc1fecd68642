"""The graph head against its paper's formulas, computed by hand. Word vectors are read from a text file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import mlrec
from mlrec.models.checkpoint import load_model, save_model
from mlrec.models.gcn import GraphConvolution, LabelGraph, adjacency, label_graph, read_vectors
from mlrec.utils.errors import ModelError

# label 0 in four samples, two of them with label 1 and one with label 2; label 1 never without 0; label 3 alone
TARGETS = np.array(
    [[1, 1, 0, 0], [1, 1, -1, 0], [1, 0, 1, 0], [1, -1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 0]], dtype=np.int8
)


def test_adjacency_by_hand() -> None:
    expected = [
        [0.8, 0.2, 0.0, 0.0],  # P(1|0) = 2/4 counts, P(2|0) = 1/4 does not
        [0.2, 0.8, 0.0, 0.0],  # P(0|1) = 1
        [0.0, 0.0, 0.8, 0.0],  # P(0|2) = 1/3 does not
        [0.0, 0.0, 0.0, 0.8],
    ]
    np.testing.assert_allclose(adjacency(TARGETS), expected, rtol=1e-6)


def test_neighbours_share_their_weight() -> None:
    weights = adjacency(np.array([[1, 1, 1], [1, 1, 1]], dtype=np.int8))
    np.testing.assert_allclose(weights, 0.1 + 0.7 * np.eye(3), rtol=1e-6)


def test_a_label_without_positives_keeps_to_itself() -> None:
    weights = adjacency(np.array([[1, 0], [1, 0]], dtype=np.int8))
    np.testing.assert_allclose(weights, 0.8 * np.eye(2), rtol=1e-6)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_equals_two_graph_convolutions_in_numpy(pooling: str) -> None:
    torch.manual_seed(0)
    words = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    head = GraphConvolution(16, 4, word_dim=6, pooling=pooling)
    head.set_graph(LabelGraph(adjacency(TARGETS), words))
    features = torch.randn(3, 16, 5, 5)
    a = adjacency(TARGETS).astype(np.float64)
    mixing = a / np.sqrt(np.outer(a.sum(1), a.sum(1)))
    first, second = (layer.weight.detach().double().numpy().T for layer in (head.first, head.second))
    hidden = mixing @ words @ first
    rows = mixing @ np.where(hidden > 0, hidden, 0.2 * hidden) @ second
    pooled = features.double().numpy().reshape(3, 16, 25)
    pooled = pooled.max(2) if pooling == "max" else pooled.mean(2)
    np.testing.assert_allclose(head(features).detach().numpy(), pooled @ rows.T, rtol=1e-4, atol=1e-5)
    if pooling == "average":
        torch.testing.assert_close(head.location_scores(features).mean(-1), head(features), rtol=1e-4, atol=1e-5)


def test_graph_and_vectors_travel_with_the_weights(tmp_path: Path) -> None:
    words = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    graph = LabelGraph(adjacency(TARGETS), words)
    model = mlrec.create_model("test_resnet", 4, "gcn", img_size=64, pooling="average", graph=graph).eval()
    save_model(tmp_path / "model.safetensors", model, {})
    again, images = load_model(tmp_path), torch.randn(2, 3, 64, 64)
    assert torch.equal(again(images), model(images))
    assert isinstance(again.head, GraphConvolution)
    assert again.head.pooling == "average"


def test_needs_its_graph() -> None:
    with pytest.raises(ModelError, match="requires a label graph"):
        mlrec.create_model("test_resnet", 4, "gcn", img_size=64)
    with pytest.raises(ModelError, match=r"'adjacency' has shape \(4, 4\) instead of \(3, 3\)"):
        mlrec.create_model("test_resnet", 3, "gcn", img_size=64, graph=label_graph(TARGETS, "abcd"))


def test_unknown_pooling_is_told() -> None:
    with pytest.raises(ModelError, match="expected max or average; did you mean 'max'"):
        GraphConvolution(4, 2, pooling="mx")


def test_vectors_by_name_by_words_and_without_case(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text(
        "Traffic 1 0\nlight 0 1\ncat 3 4\nhot dog 5 6\nsleeve 2 2\nlong 0 4\nunused 7 8\n", encoding="utf-8"
    )
    vectors = read_vectors(file, ["traffic light", "Cat", "hot dog", "longSleeve"])
    assert vectors.tolist() == [[0.5, 0.5], [3, 4], [5, 6], [1, 3]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cat 1 2\n", r"1 label has no vector \(dog\)"),
        ("cat 1 2\ndog 1 x\n", "'dog': the vector contains values that are not numbers"),
        ("cat 1 2\ndog 1 nan\n", "'dog': the vector contains NaN"),
        ("cat 1 2\ndog 1\n", r"the vectors have different lengths \(1, 2\)"),
    ],
)
def test_faulty_vectors_are_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "v.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=told):
        read_vectors(tmp_path / "v.txt", ["cat", "dog"])


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read the file"):
        read_vectors(tmp_path / "v.txt", ["cat"])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "v.txt")
    with pytest.raises(ModelError, match="not a regular file"):
        read_vectors(tmp_path / "v.txt", ["cat"])
