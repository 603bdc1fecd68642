"""Training with mlrec side by side with a plain loop, input included.

    mlrec prepare voc2007 VOCdevkit
    python benchmarks/training.py data/voc2007                          # tf_efficientnet_lite0 at 224 px on a CPU
    python benchmarks/training.py data/voc2007 --device cuda            # resnet101 at 448 px on a GPU

The plain loop is that of plain.py, with an optimizer without fusion and the loss fetched in each step; on CUDA also
with TF32 off. Both sides have the same weights, batches of one size and as many loader processes, and each a process of
its own, mlrec's set up as its command does. Rates are of steps in the middle of a run, in alternation: loader processes
live through all rounds, and steps that are not counted come first, as many as loader processes have batches ready after
a pause. Next to them is mlrec's rate when its batches are on the device already, and the share of the device's own rate
of matrix products that its arithmetic comes to.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from paired import AS_MLREC, SIDES, Side, describe_machine, tell, timed
from plain import PlainImages, plain_model
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from mlrec.config import Config
from mlrec.datasets.dataset import Dataset as DataFolder
from mlrec.datasets.manifest import Manifest
from mlrec.training import setup
from mlrec.training.dataloader import PREFETCH, Batch, default_workers, steps_per_epoch, train_batches
from mlrec.training.devices import Precision
from mlrec.training.loop import Steps, fit, train_step
from mlrec.training.losses import loss_function

AIMS = {"cpu": 1.3, "cuda": 1.8}
PASSES = 10_000  # more than are asked for
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="trainval")
    parser.add_argument("--images", type=int, default=160, help="of the split, per round")
    parser.add_argument("--device", default="cpu", choices=list(SIDES))
    parser.add_argument("--backbone", help="[default: by the device]")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.workers is None:
        args.workers = default_workers(torch.device(args.device))
    manifest = DataFolder.load(args.data).manifest(args.split)
    manifest = manifest.subset(range(min(args.images, len(manifest))))
    device, (backbone, size, precision) = torch.device(args.device), SIDES[args.device]
    config = Config(
        backbone=args.backbone or backbone, img_size=args.img_size or size, heads=8, lam=1.0, pretrained=False,
        batch_size=args.batch_size, workers=args.workers, epochs=PASSES, lr=1e-3, lr_schedule="constant",
        normalization="half",
    )  # fmt: skip
    print(f"{describe_machine()}, {torch.get_num_threads()} threads, {args.workers} loader processes, {device}")
    print(f"{config.backbone} at {config.img_size} px, {len(manifest)} images in batches of {config.batch_size}")
    rates = whole_passes(manifest, config, device, precision, args.rounds)
    for name, values in rates.items():
        print(f"{name:16} {np.median(values):8.1f} images/s trained")
    for name, aim in (("plain", AIMS[args.device]), ("plain, TF32 off", 4), ("on the device", 0.9)):
        if name in rates:
            pairs = [a / b for a, b in zip(rates["mlrec"], rates[name], strict=True)]
            tell(f"mlrec over {name}", pairs, f"to reach: {aim}")
    spent = flops_of_an_image(manifest, config, device, precision) * float(np.median(rates["mlrec"]))
    print(f"of the device's rate of {precision} matrix products: {100 * spent / matmul_rate(device, precision):.1f}%")


def whole_passes(
    manifest: Manifest, config: Config, device: torch.device, precision: Precision, number: int
) -> dict[str, list[float]]:
    """Images per second of each side in each of `number` rounds."""
    rates: dict[str, list[float]] = {}
    for measured in itertools.islice(rounds(manifest, config, device, precision), number):
        for name, rate in measured.items():
            rates.setdefault(name, []).append(rate)
    return rates


def rounds(
    manifest: Manifest, config: Config, device: torch.device, precision: Precision
) -> Iterator[dict[str, float]]:
    """Images per second of each side, in rounds of as many steps as a pass has, without what is built once."""
    both = manifest, config, device
    sides = {"plain": Side(plain, *both, True, environment={})}
    if device.type == "cuda":
        sides["plain, TF32 off"] = Side(plain, *both, False, environment={})
    sides["mlrec"] = Side(ours, *both, precision, False, environment=AS_MLREC)
    sides["on the device"] = Side(ours, *both, precision, True, environment=AS_MLREC)
    try:
        for k in itertools.count():
            rates = {}
            for name, side in sides.items():
                side.take_turn()  # until the loader processes are as far ahead as in the middle of a run
                turn = side.take_turn()
                rates[name] = turn.found / turn.seconds
            if k:  # the first round warms up
                yield rates
    finally:
        for side in sides.values():
            side.end()


def turns(trained: Iterator[int], config: Config, pass_size: int) -> Iterator[int]:
    """Images trained in each turn, in turn: enough to use up what loader processes had ready, and a pass at least.

    Args:
        trained: images trained since the last time it was asked.
        config: of the run.
        pass_size: images of a pass.
    """
    ready = ((config.workers or 0) * PREFETCH + 1) * config.batch_size
    while True:
        for least in (ready, pass_size):
            done = 0
            while done < least:
                done += next(trained)
            yield done


def plain(manifest: Manifest, config: Config, device: torch.device, tf32: bool) -> Iterator[int]:
    """Images trained, each time it is asked for a turn."""
    return turns(plain_steps(manifest, config, device, tf32), config, len(manifest))


def plain_steps(manifest: Manifest, config: Config, device: torch.device, tf32: bool) -> Iterator[int]:
    """Images of a step, after it, from one pass to the next."""
    model = plain_model(setup.build_model(config, manifest, paper=False)).to(device).train()
    groups = [{"params": model.backbone.parameters()}, {"params": model.head.parameters(), "lr": 10 * config.lr}]
    optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=0.9, weight_decay=1e-4)
    images = PlainImages(manifest, model.preprocessing, augmented=True)
    workers = config.workers or 0
    loader = DataLoader(images, config.batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    torch.backends.cudnn.allow_tf32 = tf32
    while True:
        for pixels, targets in loader:
            loss = nn.functional.binary_cross_entropy_with_logits(model(pixels.to(device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()
            yield len(pixels)


def ours(
    manifest: Manifest, config: Config, device: torch.device, precision: Precision, resident: bool
) -> Iterator[int]:
    """Images trained, each time it is asked for a turn; `resident`: its batches are on the device."""
    setup.prepare_process(config, device, precision)
    state = setup.make_state(setup.build_model(config, manifest, paper=False), config, device, precision)
    network, loss = setup.make_network(state, config, device, precision), loss_function(config, manifest)
    steps = steps_per_epoch(len(manifest), config.batch_size)
    preprocessing = state.model.preprocessing
    batches: Iterator[Batch]
    if resident:
        once = train_batches(manifest, config, preprocessing, epoch=0, device=device)
        batches = itertools.cycle([batch.to(device) for batch in once])
    else:
        batches = train_batches(manifest, config, preprocessing, epoch=0, epochs=config.epochs, device=device)
    events = fit(state, network, batches, loss, config, steps_per_epoch=steps)
    return turns((event.samples for event in events if isinstance(event, Steps)), config, len(manifest))


def flops_of_an_image(manifest: Manifest, config: Config, device: torch.device, precision: Precision) -> float:
    """Floating-point operations of convolutions and matrix products in a training step, for each of its images."""
    state = setup.make_state(setup.build_model(config, manifest, paper=False), config, device, precision)
    network, loss = setup.make_network(state, config, device, precision), loss_function(config, manifest)
    network.module.train()
    batch = next(iter(train_batches(manifest, config, state.model.preprocessing, epoch=0))).to(device)
    with FlopCounterMode(display=False) as counter:
        train_step(state, network, batch, loss, config)
    return counter.get_total_flops() / len(batch.samples)


def matmul_rate(device: torch.device, precision: Precision) -> float:
    """Floating-point operations a second of a large matrix product, the best of ten."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=HALVES.get(precision)) for _ in range(2))
    return 2 * side**3 / min(timed(lambda: left @ right, device) for _ in range(10))


if __name__ == "__main__":
    main()
