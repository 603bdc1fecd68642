"""Training with mlrec side by side with a plain loop, input included.

    mlrec prepare voc2007 VOCdevkit
    python benchmarks/training.py data/voc2007                          # tf_efficientnet_lite0 at 224 px on a CPU
    python benchmarks/training.py data/voc2007 --device cuda            # resnet101 at 448 px on a GPU

The plain loop is that of plain.py, with an optimiser without fusion and the loss fetched in each step; on CUDA also
with TF32 off. Both sides have the same weights, batches of one size and as many loader processes, and each a process of
its own, mlrec's with the settings of its commands. Rates are of whole passes, in alternation. Beside them stand mlrec's
rate when its batches lie on the device already, and the share of the device's own rate of matrix products that its
arithmetic comes to.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from paired import AS_MLREC, SIDES, Side, describe_machine, tell, timed
from plain import PlainImages, plain_model
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from mlrec.config import Config
from mlrec.datasets.folder import Dataset as DataFolder
from mlrec.datasets.manifest import Manifest
from mlrec.training import setup
from mlrec.training.batches import Batch, steps_per_epoch, train_batches
from mlrec.training.devices import Precision, prepare_device
from mlrec.training.loading import default_workers
from mlrec.training.loop import fit, train_step
from mlrec.training.losses import loss_function

AIMS = {"cpu": 1.3, "cuda": 1.8}
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="trainval")
    parser.add_argument("--images", type=int, default=160, help="of the split, a round")
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
        batch_size=args.batch_size, workers=args.workers, epochs=1, lr=1e-3, schedule="constant", normalization="half",
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
    print(f"of the device's rate of {precision} matrix products: {100 * spent / matmul_rate(device, precision):.1f} %")


def whole_passes(
    manifest: Manifest, config: Config, device: torch.device, precision: Precision, rounds: int
) -> dict[str, list[float]]:
    """Images per second of each side in each round, one pass over the images; what is built once is not counted."""
    both = manifest, config, device
    sides = {"plain": Side(plain, *both, True, environment={})}
    if device.type == "cuda":
        sides["plain, TF32 off"] = Side(plain, *both, False, environment={})
    sides["mlrec"] = Side(ours, *both, precision, False, environment=AS_MLREC)
    sides["on the device"] = Side(ours, *both, precision, True, environment=AS_MLREC)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for k in range(rounds + 1):
        for name, side in sides.items():
            spent = side.take_turn().seconds
            if k:  # the first round warms up
                rates[name].append(len(manifest) / spent)
    for side in sides.values():
        side.end()
    return rates


def plain(manifest: Manifest, config: Config, device: torch.device, tf32: bool) -> Iterator[None]:
    """A pass each time it is asked for."""
    model = plain_model(setup.build_model(config, manifest, paper=False)).to(device).train()
    groups = [{"params": model.backbone.parameters()}, {"params": model.head.parameters(), "lr": 10 * config.lr}]
    optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=0.9, weight_decay=1e-4)
    images = PlainImages(manifest, model.preprocessing, augmented=True)
    loader = DataLoader(images, config.batch_size, shuffle=True, num_workers=config.workers or 0)
    while True:
        torch.backends.cudnn.allow_tf32 = tf32
        for pixels, targets in loader:
            loss = nn.functional.binary_cross_entropy_with_logits(model(pixels.to(device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()
        yield


def ours(
    manifest: Manifest, config: Config, device: torch.device, precision: Precision, resident: bool
) -> Iterator[None]:
    """A pass each time it is asked for; `resident`: its batches lie on the device."""
    state = setup.make_state(setup.build_model(config, manifest, paper=False), config, device, precision)
    network, loss = setup.make_network(state, config, device, precision), loss_function(config, manifest)
    steps = steps_per_epoch(len(manifest), config.batch_size)

    def load() -> Iterable[Batch]:
        return train_batches(manifest, config, state.model.preprocessing, epoch=0)

    kept = [batch.to(device) for batch in load()] if resident else None
    while True:
        prepare_device(device, precision)
        state.epoch = state.batch = 0
        for _ in fit(state, network, iter(kept or load()), loss, config, steps_per_epoch=steps):
            pass
        yield


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
