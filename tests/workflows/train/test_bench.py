"""`mlrec bench head`: every head is timed as often as the first, and beside it."""

from __future__ import annotations

import pytest

from mlrec.metrics.intervals import median_interval
from mlrec.utils.errors import ModelError, UsageError
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.bench import bench_head, cost_table

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
    with pytest.raises(ModelError, match="the paper has"):
        bench_head("test_resnet", [3], num_labels=5, img_size=64, steps=1, machine=HERE)


def test_the_interval_of_a_median() -> None:
    assert median_interval([2.0] * 9) == (2.0, 2.0, 2.0)
    middle, low, high = median_interval([1.0, 2.0, 3.0, 4.0, 100.0])
    assert middle == 3.0
    assert low < 3.0 < high
