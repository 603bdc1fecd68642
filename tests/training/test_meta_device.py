"""Training steps and inference on the meta device, which stands for a GPU.

Operations on tensors of two devices fail there, as on a GPU, and so does fetching a value (`.item()`, `nonzero`), which
on a GPU would wait for the device. Copies between devices are counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import HEADS, Classifier, create_model
from mlrec.models.residual import residual_parts
from mlrec.training import devices, loop, setup
from mlrec.training.dataloader import Batch
from mlrec.training.features import Features, feature_batches
from mlrec.training.loop import Network, train_step
from mlrec.training.losses import LOSSES, Loss, loss_function
from mlrec.training.prediction import InferenceModel
from mlrec.training.state import State

META, CPU = torch.device("meta"), torch.device("cpu")
TARGETS = np.eye(4, 3, dtype=np.int8) - np.eye(4, 3, 1, dtype=np.int8)  # positives, and unknown labels
LABELS, SIZE, SAMPLES = ("a", "b", "c"), 64, 4
MANIFEST = Manifest("random", "train", Path(), LABELS, ("1.jpg", "2.jpg", "3.jpg", "4.jpg"), TARGETS)


class Copies(TorchDispatchMode):
    """Names of the operations that copy from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [value for value in tree_leaves((args, kwargs, result)) if isinstance(value, Tensor)]
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.names.append(str(function))
        return result


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast and timm's generator do not know the meta device."""
    enabled, autocast, generator = torch.is_autocast_enabled, torch.autocast, torch.Generator

    def autocast_of(device: str, **options: Any) -> Any:
        return contextlib.nullcontext() if device == "meta" else autocast(device, **options)

    def generator_of(device: Any = "cpu") -> torch.Generator:
        return generator("cpu" if str(device) == "meta" else device)

    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device != "meta" and enabled(device))
    monkeypatch.setattr(torch, "autocast", autocast_of)
    monkeypatch.setattr(torch, "Generator", generator_of)


def batch() -> Batch:
    images = torch.zeros(SAMPLES, 3, SIZE, SIZE, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    return Batch(images, torch.ones(SAMPLES, len(LABELS), dtype=torch.int8), torch.arange(SAMPLES))


def trained(**keys: Any) -> tuple[State, Network, Loss, Config]:
    given = {"backbone": "test_resnet", "img_size": SIZE, "batch_size": SAMPLES, "pretrained": False, "heads": 2}
    config = Config(**(given | keys))
    state = setup.make_state(setup.build_model(config, MANIFEST, paper=False), config, META, "fp32")
    network = setup.make_network(state, config, META, "fp32")
    network.module.train()
    return state, network, loss_function(config, MANIFEST), config


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"ema": True, "clip_grad": 1.0, "grad_accum_steps": 2},
        {"loss": "asl", "pos_weight": "auto", "unknown": "ignore", "head_dropout": 0.5},
        {"grad_checkpointing": True},
        {"backbone": "test_vit", "opt": "adamw"},
        *({"head": head} for head in HEADS),
        *({"loss": loss} for loss in LOSSES),
    ],
    ids=str,
)
def test_a_step_neither_waits_for_the_device_nor_mixes_devices(keys: dict[str, Any]) -> None:
    state, network, loss, config = trained(**keys)
    on_device = batch().to(META)
    train_step(state, network, on_device, loss, config)  # caches constants on the device
    with Copies() as copies:
        value, norm = train_step(state, network, on_device, loss, config)
    assert (value.device, norm.device) == (META, META)
    assert copies.names == []


def constant(logits: Tensor, targets: Tensor, epoch: int = 0) -> Tensor:
    return (logits * torch.tensor(2.0).to(logits.device)).mean()


def mixed(logits: Tensor, targets: Tensor, epoch: int = 0) -> Tensor:
    return (logits * torch.ones(len(LABELS))).mean()


def fetched(logits: Tensor, targets: Tensor, epoch: int = 0) -> Tensor:
    return logits.mean() * logits.max().item()


@pytest.mark.parametrize(("loss", "error"), [(constant, None), (mixed, "expected device meta"), (fetched, "item")])
def test_the_simulation_sees_such_mistakes(loss: Loss, error: str | None) -> None:
    state, network, _, config = trained()
    if error is not None:
        with pytest.raises(RuntimeError, match=error):
            train_step(state, network, batch().to(META), loss, config)
        return
    on_device = batch().to(META)
    with Copies() as copies:
        train_step(state, network, on_device, loss, config)
    assert copies.names == ["aten._to_copy.default"]


def test_a_batch_is_copied_once_and_asynchronously(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[Any] = []
    real = Tensor.to
    monkeypatch.setattr(Tensor, "to", lambda tensor, *a, **given: waits.append(given) or real(tensor, *a, **given))
    with Copies() as copies:
        batch().to(META)
    assert len(copies.names) == 3
    assert waits == [{"non_blocking": True}] * 3


READS: dict[str, Callable[[Classifier], Callable[[Tensor], Tensor]]] = {
    "logits": lambda model: model.head,
    "parts": lambda model: partial(residual_parts, model.head, temperatures=(1.0, float("inf"))),
    "contributions": lambda model: model.head.contributions,
    "location scores": lambda model: model.head.location_scores,
}


@pytest.mark.parametrize("head", ["csra", "average", "gcn"])
@pytest.mark.parametrize("read", READS)
def test_inference_stays_on_the_device(head: str, read: str) -> None:
    options: dict[str, Any] = {"graph": None}
    if head == "gcn":
        from mlrec.models.gcn import label_graph

        options = {"graph": label_graph(MANIFEST.targets, LABELS)}
    model = create_model("test_resnet", len(LABELS), head, heads=6, img_size=SIZE, **options)
    model = model.to(META, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    opened = InferenceModel(model, META, "fp32", model.backbone, "--batch-size")
    images = batch().images.to(META)
    opened.run(images, model.head)
    with Copies() as copies:
        assert opened.run(images, READS[read](model)).device == META
    assert copies.names == []


def test_features_on_the_device_are_selected_there() -> None:
    """Only positions and targets are copied, not features."""
    features = Features(MANIFEST, torch.empty(1, SAMPLES, 8, 2, 2, device=META))
    config = Config(batch_size=SAMPLES)
    with Copies() as copies:
        (one,) = feature_batches(features, config, epoch=0)
    assert one.images.device == META
    assert copies.names == ["aten._to_copy.default"], "the positions"


@pytest.mark.parametrize(("device", "due"), [(CPU, 1), (torch.device("cuda"), loop.SYNC_EVERY)])
def test_losses_are_fetched_rarely(device: torch.device, due: int) -> None:
    state = trained()[0]
    steps = []
    for step in range(1, 41):
        state.step, state.batch = step, step
        if loop._sync_is_due(state, device, Config(), 1000):
            steps.append(step)
    assert steps == list(range(due, 41, due))


def test_counting_operations_does_not_copy_the_model() -> None:
    """A second model on a GPU that is almost full would run out of memory."""
    from mlrec.training.throughput import training_flops

    class Large(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            for value in tree_leaves(result):
                if isinstance(value, Tensor) and value.device.type != "meta":
                    self.largest = max(self.largest, value.numel())
            return result

    model = create_model("test_resnet", 3, img_size=32)
    with Large() as seen:
        assert training_flops(model)
    assert seen.largest <= 8


def test_an_evaluation_has_its_own_kernels() -> None:
    """cuDNN finds a kernel again by a key that contains `deterministic`, so those that training timed are not used."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    seen = []

    class Seen(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append((cudnn.benchmark, cudnn.deterministic))
            return images.to(torch.float32)

    model = create_model("test_resnet", 3, img_size=SIZE).eval()
    cudnn.benchmark = True
    try:
        opened = InferenceModel(model, CPU, "fp32", Seen(), "--batch-size")
        opened.run(batch().images, lambda features: seen.append((cudnn.benchmark, cudnn.deterministic)))
        assert seen == [(False, True)] * 2
        assert (cudnn.benchmark, cudnn.deterministic) == (True, before[1])
        with contextlib.suppress(ValueError), devices.repeatable_kernels():
            raise ValueError
        assert (cudnn.benchmark, cudnn.deterministic) == (True, before[1])
    finally:
        cudnn.benchmark, cudnn.deterministic = before
