"""Checks of gpu.py on a model in this process: the same numbers as on the CPU, and no waiting for the device."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, distributed, nn

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import Classifier
from mlrec.training import setup
from mlrec.training.dataloader import Batch
from mlrec.training.devices import Precision, autocast
from mlrec.training.distributed import parallel, synchronized_batch_norm
from mlrec.training.loop import Network, train_step
from mlrec.training.losses import Loss, loss_function
from mlrec.training.prediction import open_on
from mlrec.training.state import State

if TYPE_CHECKING:
    from gpu import Bench

Finding = tuple[str, str, str, bool | None]
LABELS = tuple(map(str, range(80)))
RANDOM = Manifest("random", "train", Path(), LABELS, ("x.jpg",), np.zeros((1, len(LABELS)), np.int8))
LARGEST: dict[Precision, float] = {"fp32": 2e-4, "tf32": 1e-2, "fp16": 1e-2, "bf16": 6e-2}  # relative error of logits
COSINE: dict[Precision, float] = {"fp32": 0.999, "tf32": 0.99, "fp16": 0.99, "bf16": 0.9}  # of gradients
FP16_SCALE = 128.0  # of the loss: without it most gradients would be below the smallest number of fp16
CPU = torch.device("cpu")


class Made(NamedTuple):
    """What `train_step` takes, set up as `mlrec train` does."""

    state: State
    network: Network
    loss: Loss


class Outcome(NamedTuple):
    """What a model makes of a batch."""

    logits: Tensor
    gradient: Tensor


def config_of(bench: Bench, backbone: str = "", size: int = 0, batch: int = 0, **keys: object) -> Config:
    """A config; by default that of the paper's Table, or of a model that a CPU runs in no time."""
    usual = ("test_resnet", 64, 4) if bench.small else ("resnet101", 448, 16)
    given = {"backbone": backbone or usual[0], "img_size": size or usual[1], "batch_size": batch or usual[2]}
    fixed = {
        "pretrained": False,
        "lr_schedule": "constant",
        "lr": 1e-3,
        "heads": 8,
        "lam": 1.0,
        "normalization": "half",
    }
    return Config(**(fixed | given | keys))  # type: ignore[arg-type]


def random_batch(config: Config, device: torch.device) -> Batch:
    """The same random pixels and labels each time."""
    generator, count, size = torch.Generator().manual_seed(0), config.batch_size, config.img_size
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, 2, (count, len(LABELS)), dtype=torch.int8, generator=generator)
    return Batch(pixels.contiguous(memory_format=torch.channels_last), targets, torch.arange(count)).to(device)


def made(config: Config, device: torch.device, precision: Precision, model: Classifier | None = None) -> Made:
    """State, network and loss."""
    setup.prepare_process(config, device, precision)
    state = setup.make_state(model or setup.build_model(config, RANDOM, paper=False), config, device, precision)
    network = setup.make_network(state, config, device, precision)
    network.module.train()
    return Made(state, network, loss_function(config, RANDOM))


def parity(bench: Bench) -> Iterator[Finding]:
    """Compare logits and gradients of each precision of the device with those of float32 on the CPU.

    Gradients in float32 are those of a training step. Those of other precisions are computed with the running
    statistics of BatchNorm: batch statistics of an untrained network amplify the rounding of bf16 until gradients have
    nothing in common (cosine 0.4 for EfficientNet-Lite0, on a CPU as well).
    """
    names = ["test_resnet", "test_efficientnet", "test_vit"]
    if not bench.small:
        names = ["resnet50", "tf_efficientnet_lite0", "vit_small_patch16_224"]
    precisions: list[Precision] = ["fp32", "tf32", "bf16", "fp16"] if bench.cuda else ["fp32", "bf16"]
    for name in names:
        config = config_of(bench, name, 64 if bench.small else 224, 8)
        model = with_random_norms(setup.build_model(config, RANDOM, paper=False))
        expected = {training: outcome(model, config, CPU, "fp32", training=training) for training in (True, False)}
        for precision in precisions:
            training = precision == "fp32"
            found = outcome(model, config, bench.device, precision, training=training)
            logits, gradient = expected[training]
            error = float((found.logits - logits).abs().max() / logits.abs().max())
            cosine = float(nn.functional.cosine_similarity(found.gradient, gradient, dim=0))
            yield (
                f"{name}, {precision}, compared with float32 on the CPU",
                f"logits {error:.1e}, cosine of gradients {cosine:.5f}",
                f"at most {LARGEST[precision]:g}, at least {COSINE[precision]}",
                error <= LARGEST[precision] and cosine >= COSINE[precision],
            )


def with_random_norms(model: Classifier) -> Classifier:
    """Draw weights and statistics of BatchNorm: an untrained ResNet has zeros there, which switch its blocks off."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return model


def outcome(
    model: Classifier, config: Config, device: torch.device, precision: Precision, *, training: bool
) -> Outcome:
    """Compute logits in evaluation, and all gradients of a step, with batch statistics only if `training`."""
    state, network, loss = made(config, device, precision, copy.deepcopy(model))
    batch = random_batch(config, device)
    state.model.eval()
    with torch.inference_mode():
        logits = open_on(state.model, device, precision).run(batch.images, state.model.head).cpu()
    network.module.train(training)
    with autocast(device, precision):
        output = network.module(network.inputs(batch.images))
    torch.autograd.backward(loss(output, batch.targets) * (FP16_SCALE if precision == "fp16" else 1.0))
    gradients = [p.grad.double().flatten().cpu() for p in state.model.parameters() if p.grad is not None]
    return Outcome(logits, torch.cat(gradients))  # their cosine does not depend on the scale


def no_waiting(bench: Bench) -> Iterator[Finding]:
    """No operation inside a step waits for the device."""
    ways: list[tuple[Precision, dict[str, object]]] = [
        ("bf16", {"ema": True, "clip_grad": 1.0, "grad_accum_steps": 2}),
        ("fp16", {"clip_grad": 1.0}),
        ("bf16", {"loss": "asl", "pos_weight": "auto", "unknown": "ignore", "head_dropout": 0.5}),
    ]
    for precision, keys in ways:
        if precision == "fp16" and not bench.cuda:
            continue
        config = config_of(bench, **keys)
        state, network, loss = made(config, bench.device, precision)
        batch, waited = random_batch(config, bench.device), ""
        for _ in range(3):
            train_step(state, network, batch, loss, config)
        try:
            if bench.cuda:
                torch.cuda.set_sync_debug_mode("error")
            train_step(state, network, batch, loss, config)
        except RuntimeError as error:
            waited = str(error).splitlines()[0]
        finally:
            if bench.cuda:
                torch.cuda.set_sync_debug_mode("default")
        text = ", ".join(f"{key} {value}" for key, value in keys.items())
        found = waited or ("none" if bench.cuda else "a CPU has none")
        yield f"waits in a step, {precision}, {text}", found, "none", not waited if bench.cuda else None


def sync_bn(bench: Bench) -> Iterator[Finding]:
    """--sync-bn keeps the function, and one process under DDP trains as one without."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"}
    device = bench.device if bench.cuda else None
    distributed.init_process_group("nccl" if bench.cuda else "gloo", rank=0, world_size=1, device_id=device)
    try:
        for name in ("test_efficientnet",) if bench.small else ("resnet18", "tf_efficientnet_lite0"):
            config = config_of(bench, name, 64 if bench.small else 96, 8)
            model = setup.build_model(config, RANDOM, paper=False).to(bench.device).eval()
            images = torch.randn(8, 3, config.img_size, config.img_size, device=bench.device)
            with torch.no_grad():
                expected = model(images)
                found = (parallel(model, bench.device, sync_bn=True) if bench.cuda else synchronized_batch_norm(model))(
                    images
                )
            error = float((found - expected).abs().max() / expected.abs().max())
            yield f"--sync-bn, {name}: logits, relative", f"{error:.1e}", "below 1e-4", error < 1e-4
        config = config_of(bench)
        alone, wrapped = made(config, bench.device, "fp32"), made(config, bench.device, "fp32")
        module = parallel(wrapped.state.model, bench.device, sync_bn=False)
        network = Network(module.train(), wrapped.network.inputs, bench.device, "fp32")
        batch = random_batch(config, bench.device)
        pairs = [
            (
                float(train_step(alone.state, alone.network, batch, alone.loss, config)[0]),
                float(train_step(wrapped.state, network, batch, wrapped.loss, config)[0]),
            )
            for _ in range(3)
        ]
        largest = max(abs(a - b) for a, b in pairs)
        yield "one process under DDP: difference of losses", f"{largest:.1e}", "below 1e-4", largest < 1e-4
    finally:
        distributed.destroy_process_group()
