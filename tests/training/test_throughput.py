"""Counted arithmetic against arithmetic by hand."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import create_model
from mlrec.training import loop, prediction, setup, throughput
from mlrec.training.throughput import Meter, Speed, peak_flops, training_flops
from tests.tiny import make_tiny


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


@pytest.mark.parametrize(
    ("decoding", "computing", "workers", "cores", "device", "words", "advice"),
    [
        (0.01, 0.001, 4, 16, "cuda:0", "data: 400 images/s with 4 dataloader workers; cuda:0: 1,000 images/s; the data "
         "path limits training", "use --workers 10"),
        (0.01, 0.0001, 4, 16, "cuda:0", "data: 400 images/s with 4 dataloader workers; cuda:0: 10,000 images/s; the "
         "data path limits training", "use --workers 16"),
        (0.01, 0.0001, 16, 16, "cuda:0", "data: 1,600 images/s with 16 dataloader workers; cuda:0: 10,000 images/s; "
         "the data path limits training",
         "all cores decode: store smaller copies of the images, use more cores, or --freeze-backbone"),
        (0.01, 0.01, 64, 2, "cuda:0", "data: 200 images/s with 64 dataloader workers; cuda:0: 100 images/s; the device "
         "limits training", ""),
        (0.002, 0.4, 0, 2, "cpu", "data: 1,000 images/s with 2 cores; cpu: 2.5 images/s; the device limits training",
         ""),
    ],
)  # fmt: skip
def test_what_limits_training(
    decoding: float, computing: float, workers: int, cores: int, device: str, words: str, advice: str
) -> None:
    speed = Speed(decoding, computing, workers, cores, device)
    assert (speed.in_words(), speed.advice()) == (words, advice)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Manifest.load(make_tiny(tmp_path_factory.mktemp("speed")) / "train.jsonl")


def test_the_decoding_rate_is_that_of_the_loader(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlrec.training import dataloader

    real, read = dataloader.load, []

    def slow(path: Path, decode: Any) -> Any:
        read.append(path)
        time.sleep(0.02)
        return real(path, decode)

    monkeypatch.setattr(dataloader, "load", slow)
    model = create_model("test_resnet", 3, img_size=32)
    seconds = throughput.decoding_seconds(manifest, Config(img_size=32), model.preprocessing)
    assert seconds >= 0.02
    assert len(read) == len(set(read)) == min(32, len(manifest))


@pytest.mark.parametrize("frozen", [False, True])
def test_the_rate_of_a_gpu_is_that_of_whole_steps(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    """The GPU is this CPU under another name; with a frozen backbone its features are the work."""

    class Gpu:
        type = "mps"

    steps, waits, real = [], [], throughput.time.perf_counter
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda _: waits.append(real()))
    clock = iter((100.0, 104.0))
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    config = Config(backbone="test_resnet", img_size=32, batch_size=4, freeze_backbone=frozen, pretrained=False)
    model = create_model("test_resnet", 3, img_size=32)
    cpu = torch.device("cpu")
    monkeypatch.setattr("mlrec.training.dataloader.Batch.to", lambda batch, _: batch)
    for place in ("prepare_process", "make_state", "make_network"):
        real_function = getattr(setup, place)
        monkeypatch.setattr(
            setup, place, lambda *given, real=real_function: real(*(cpu if isinstance(g, Gpu) else g for g in given))
        )
    real_open = prediction.open_on
    monkeypatch.setattr(prediction, "open_on", lambda model, _, precision: real_open(model, cpu, precision))
    real_step, real_features = loop.train_step, prediction.InferenceModel.features
    monkeypatch.setattr(loop, "train_step", lambda *given: steps.append(1) or real_step(*given))
    monkeypatch.setattr(prediction.InferenceModel, "features", lambda *given: steps.append(1) or real_features(*given))
    seconds = throughput.computing_seconds(model, manifest, config, Gpu(), "fp32")  # type: ignore[arg-type]
    assert len(steps) == throughput.STEPS_BEFORE + throughput.STEPS_TIMED
    assert len(waits) == 2
    assert seconds == 4.0 / (throughput.STEPS_TIMED * 4)
