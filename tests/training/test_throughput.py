"""Counted arithmetic against arithmetic by hand."""

from __future__ import annotations

import pytest
import torch

from mlrec.models.classifier import create_model
from mlrec.training.throughput import Meter, peak_flops, training_flops


@pytest.mark.parametrize(
    ("gpu", "precision", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989e12),
        ("NVIDIA H100 PCIe", "fp16", 756e12),
        ("NVIDIA A100-SXM4-80GB", "tf32", 156e12),
        ("NVIDIA A10G", "bf16", 70e12),
        ("NVIDIA A10", "bf16", 125e12),
        ("NVIDIA L4", "bf16", 121e12),
        ("NVIDIA L40S", "bf16", 362e12),
        ("Tesla T4", "fp32", 8.1e12),
        ("Tesla V100-SXM2-16GB", "fp16", 125e12),
        ("Quadro M4000", "fp32", None),
    ],
)
def test_the_peak_of_a_gpu_is_found_by_its_name(gpu: str, precision: str, expected: float | None) -> None:
    assert peak_flops(gpu, precision) == expected


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_operations_of_a_training_step(backbone: str) -> None:
    """Forward by hooks on convolutions and linear layers; backward has twice as many, but none for the images."""
    model = create_model(backbone, 3, heads=2, lam=0.5, img_size=32)
    forward, first = [], []

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weights = layer.weight.numel() if isinstance(layer, torch.nn.Linear) else layer.weight[0].numel()
        places = output.numel() // (layer.out_features if isinstance(layer, torch.nn.Linear) else 1)
        forward.append(2 * weights * places)
        if not inputs[0].requires_grad:
            first.append(forward[-1])

    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            layer.register_forward_hook(count)
    counted = training_flops(model)
    assert counted is not None
    forward.clear(), first.clear()
    model.train()(torch.randn(2, 3, 32, 32))
    assert counted == pytest.approx((3 * sum(forward) - sum(first)) / 2, rel=0.05)  # attention and the head come on top


def test_a_line_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU is simulated: an H100 in each of two processes."""
    device = torch.device("cuda", 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 12345)
    resets: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", resets.append)
    model = create_model("test_resnet", 3, img_size=32)
    meter = Meter.of(model, device, "bf16", frozen=False)
    assert meter.flops == training_flops(model)
    assert resets == [device], "peak memory of an earlier run in this process counts"
    assert meter.flops is not None
    rate = 0.4 * 2 * 989e12 / meter.flops
    expected = {"images_per_second": round(rate, 2), "data_seconds": 0.25, "mfu": 0.4, "peak_memory": 12345}
    assert meter.entry(rate, 0.25) == expected
    assert Meter.of(model, device, "bf16", frozen=True).entry(10.0, 0.0)["mfu"] is None
    cpu = Meter.of(model, torch.device("cpu"), "fp32", frozen=False).entry(10.0, 0.5)
    assert cpu == {"images_per_second": 10.0, "data_seconds": 0.5, "mfu": None, "peak_memory": None}
