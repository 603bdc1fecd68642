"""`mlrec bench head`: every head is timed as often as the first, and beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlrec.metrics.intervals import median_interval
from mlrec.models.classifier import create_head
from mlrec.run_folders.head_costs import HeadCosts
from mlrec.run_folders.record import Run
from mlrec.run_folders.sweep_file import Entry, SweepFile
from mlrec.training.timing import forward_flops
from mlrec.utils.errors import ModelError, RunError, UsageError
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.bench import bench_head, bench_sweep, cost_table
from mlrec.workflows.train.train import train
from tests.tiny import FAST, make_tiny

HERE = RuntimeOptions(batch_size=2, device="cpu")


def test_heads_stand_beside_average_pooling() -> None:
    found = bench_head("test_resnet", [1, 4], num_labels=5, img_size=64, steps=3, machine=HERE)
    costs = found.heads
    assert [cost.head for cost in costs] == ["average pooling", "CSRA, H = 1", "CSRA, H = 4"]
    assert all(cost.training_ms > 0 and cost.forward_ms > 0 for cost in costs)
    assert costs[0].training_ratio is None
    for ratio in (costs[2].training_ratio, costs[2].forward_ratio):
        assert ratio is not None
        assert ratio[1] <= ratio[0] <= ratio[2]
    assert any("3705.6" in note for note in cost_table(found).footnotes)
    told = found.to_dict()
    assert (told["backbone"], told["img_size"], told["batch_size"], told["device"]) == ("test_resnet", 64, 2, "cpu")
    assert {"torch", "threads", "precision"} <= told.keys()
    assert told["heads"][1]["head"] == "CSRA, H = 1"


def test_what_cannot_be_timed_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one step"):
        bench_head("test_resnet", [1], steps=0)
    with pytest.raises(ModelError, match="default temperatures exist only for"):
        bench_head("test_resnet", [3], num_labels=5, img_size=64, steps=1, machine=HERE)


def test_the_interval_of_a_median() -> None:
    assert median_interval([2.0] * 9) == (2.0, 2.0, 2.0)
    middle, low, high = median_interval([1.0, 2.0, 3.0, 4.0, 100.0])
    assert middle == 3.0
    assert low < 3.0 < high


def test_operations_of_heads_by_hand() -> None:
    d, C, N, e, K = 16, 6, 4, 8, 6  # channels, labels, locations, width of a decoder, queries of ml-decoder
    features = torch.randn(1, d, 2, 2)

    def flops(name: str, **options: object) -> int:
        return forward_flops(create_head(name, d, C, **options).eval(), features)

    assert flops("average") == 2 * d * C
    assert flops("csra", heads=2) == 2 * 2 * d * C * N  # the projection; softmax and sums are not counted
    attention = 2 * (2 * e * e + 2 * e * e * N / K) * K + 2 * 2 * K * N * e  # queries, output, keys, values; products
    feed_forward = 2 * 2 * K * e * 2048
    assert flops("ml-decoder", decoder_dim=e) == 2 * d * e * N + attention + feed_forward + 2 * C * e
    own = 2 * C * 4 * e * e + 2 * 2 * C * C * e  # self-attention of the labels
    across = 2 * (2 * e * e * C + 2 * e * e * N) + 2 * 2 * C * N * e
    assert flops("q2l", decoder_dim=e, layers=1) == 2 * d * e * N + own + across + 2 * 2 * C * e * 4 * e


def test_the_heads_of_a_sweep_are_measured_side_by_side(tmp_path: Path) -> None:
    data, entries = make_tiny(tmp_path), []
    for name, head in (("a", "average"), ("b", "csra")):
        train(FAST | {"data": str(data), "head": head, "epochs": 1, "freeze_backbone": True}, out=tmp_path, name=name)
        entries.append(Entry(name, head, {"seed": 0}))
    entries.append(Entry("missing", "gcn", {"seed": 0}))
    with pytest.raises(RunError, match="not a sweep folder"):
        bench_sweep(tmp_path)
    SweepFile("Heads", entries).save(tmp_path)
    costs = bench_sweep(tmp_path, steps=2, machine=HERE)
    assert HeadCosts.load(tmp_path) == costs
    assert [(cost.head, cost.run) for cost in costs.heads] == [("average", "a"), ("csra", "b")]
    for cost in costs.heads:
        assert cost.parameters == Run.load(tmp_path / cost.run).record.model["head_parameters"]
    assert costs.heads[0].flops == 2 * 256 * 3
    assert not any("3705.6" in note for note in cost_table(costs).footnotes)
