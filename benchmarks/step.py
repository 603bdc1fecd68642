"""What CSRA adds to a model with average pooling, in a training step and at test time; and the memory of a step.

    python benchmarks/step.py --device cuda            # resnet101 at 448 px: the figures of the paper's Table
    python benchmarks/step.py                          # tf_efficientnet_lite0 at 224 px on a CPU

A batch of random pixels lies on the device; both models have the same backbone. Times are of alternating steps. Peak
memory is that of the paper's setting on COCO, 80 labels, six heads, λ = 0.5, batches of 16, beside the reference:
float32, contiguous memory, one convolution a head (see plain.py).
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import torch
from paired import SIDES, describe_machine, tell, timed
from plain import plain_model

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.training import setup
from mlrec.training.dataloader import Batch
from mlrec.training.devices import Precision, autocast
from mlrec.training.loop import Network, train_step
from mlrec.training.losses import loss_function
from mlrec.training.state import State

WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=list(SIDES))
    parser.add_argument("--backbone", help="[default: by the device]")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--alternations", type=int, default=20)
    args = parser.parse_args()
    device, (backbone, size, precision) = torch.device(args.device), SIDES[args.device]
    config = Config(
        backbone=args.backbone or backbone, img_size=args.img_size or size, heads=8, lam=1.0, pretrained=False,
        batch_size=args.batch_size, lr_schedule="constant", lr=1e-3,
    )  # fmt: skip
    labels = tuple(map(str, range(args.labels)))
    manifest = Manifest("random", "train", Path(), labels, ("x.jpg",), np.zeros((1, len(labels)), np.int8))
    print(f"{describe_machine()}, {torch.get_num_threads()} threads, {device}, {precision}")
    print(f"{config.backbone} at {config.img_size} px, batches of {config.batch_size}, {len(labels)} labels")
    batch = random_batch(config, len(labels), device)
    for title, work, aim in (
        ("a training step of CSRA H = 8 over average pooling", training, "1.005, the paper 1.008"),
        ("the same at test time", scoring, "1.01, the paper 1.08"),
    ):
        ratios = csra_over_average(work, manifest, config, batch, device, precision, args.alternations)
        tell(title, ratios, f"to reach on a GPU: at most {aim}")
    if device.type == "cuda":
        paper = msgspec.structs.replace(config, heads=6, lam=0.5)
        peaks = peak_memory(manifest, paper, batch, device, precision)
        for name, peak in peaks.items():
            print(f"peak memory of a training step, H = 6, {name}: {peak:.2f} GB")
        print(f"mlrec over the reference: {peaks['mlrec'] / peaks['reference']:.2f} (to reach: at most 1)")
    else:
        print("peak memory: counted on a GPU alone")


def csra_over_average(
    work: Callable[..., Iterator[None]],
    manifest: Manifest,
    config: Config,
    batch: Batch,
    device: torch.device,
    precision: Precision,
    alternations: int,
) -> list[float]:
    """Seconds of `work` with CSRA over those with average pooling; both models are gone afterwards."""
    sides = {
        head: work(manifest, msgspec.structs.replace(config, head=head), batch, device, precision)
        for head in ("average", "csra")
    }
    return alternate(sides, alternations, device)


def random_batch(config: Config, labels: int, device: torch.device) -> Batch:
    """Random pixels and labels."""
    count, size = config.batch_size, config.img_size
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    targets = torch.randint(0, 2, (count, labels), dtype=torch.int8)
    return Batch(pixels, targets, torch.arange(count)).to(device)


def training(
    manifest: Manifest, config: Config, batch: Batch, device: torch.device, precision: Precision
) -> Iterator[None]:
    """A step of mlrec's loop each time it is asked for."""
    state, network = as_the_command(manifest, config, device, precision)
    loss = loss_function(config, manifest)
    network.module.train()
    while True:
        train_step(state, network, batch, loss, config)
        yield


def scoring(
    manifest: Manifest, config: Config, batch: Batch, device: torch.device, precision: Precision
) -> Iterator[None]:
    """The logits of the batch each time they are asked for."""
    _, network = as_the_command(manifest, config, device, precision)
    network.module.eval()
    while True:
        with torch.inference_mode(), autocast(device, precision):
            network.module(network.inputs(batch.images))
        yield


def as_the_command(
    manifest: Manifest, config: Config, device: torch.device, precision: Precision
) -> tuple[State, Network]:
    """Process, model and optimiser set up as `mlrec train` does."""
    setup.prepare_process(config, device, precision)
    state = setup.make_state(setup.build_model(config, manifest, paper=False), config, device, precision)
    return state, setup.make_network(state, config, device, precision)


def reference(manifest: Manifest, config: Config, batch: Batch, device: torch.device) -> Iterator[None]:
    """A plain step each time it is asked for."""
    model = plain_model(setup.build_model(config, manifest, paper=False)).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9, weight_decay=1e-4)
    images, targets = (batch.images / 255).contiguous(), (batch.targets == 1).float()
    torch.backends.cudnn.allow_tf32 = True
    while True:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(images), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield


def alternate(sides: dict[str, Iterator[None]], rounds: int, device: torch.device) -> list[float]:
    """Seconds of the second side over those of the first, in turns, each first in every other one."""
    ratios = []
    for k in range(rounds + WARM_UP):
        spent = {name: timed(lambda name=name: next(sides[name]), device) for name in list(sides)[:: (-1) ** k]}
        first, second = sides
        if k >= WARM_UP:
            ratios.append(spent[second] / spent[first])
    return ratios


def peak_memory(
    manifest: Manifest, config: Config, batch: Batch, device: torch.device, precision: Precision
) -> dict[str, float]:
    """GB of memory of a step at its peak: weights, gradients, momentum and what the backward pass keeps.

    One model at a time, each gone before the next one is built.
    """
    ways: dict[str, Callable[[], Iterator[None]]] = {
        "reference": lambda: reference(manifest, config, batch, device),
        "mlrec": lambda: training(manifest, config, batch, device, precision),
    }
    peaks = {}
    for name, way in ways.items():
        gc.collect()
        torch.cuda.empty_cache()
        steps = way()
        next(steps)
        torch.cuda.reset_peak_memory_stats(device)
        next(steps)
        peaks[name] = torch.cuda.max_memory_allocated(device) / 1e9
        steps.close()  # type: ignore[attr-defined]
        del steps
    return peaks


if __name__ == "__main__":
    main()
