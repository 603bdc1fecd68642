"""Training side by side with a plain loop, and CSRA beside average pooling in one training step.

    mlrec prepare voc2007 VOCdevkit
    python benchmarks/training.py data/voc2007                          # tf_efficientnet_lite0 at 224 px on a CPU
    python benchmarks/training.py data/voc2007 --device cuda            # resnet101 at 448 px on a GPU

The plain loop is written anew from a description of the paper's code and of common scripts: PIL and torchvision
transforms v1, contiguous memory, float32 (on CUDA with cuDNN's default TF32 convolutions, and without), one
convolution a head, an optimiser without fusion, the loss fetched in each step. Both sides have the same weights,
batches of one size and as many loader processes. Rates are of whole passes, input included, in alternation in one
process tree.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from paired import describe_machine, ratio_interval
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mlrec.config import Config
from mlrec.datasets.folder import Dataset as DataFolder
from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import Classifier
from mlrec.training import setup
from mlrec.training.batches import Batch, steps_per_epoch, train_batches
from mlrec.training.devices import Precision, prepare_device
from mlrec.training.loading import default_workers
from mlrec.training.loop import fit, train_step
from mlrec.training.losses import loss_function

SIDES = {"cpu": ("tf_efficientnet_lite0", 224, "fp32"), "cuda": ("resnet101", 448, "bf16")}
AIMS = {"cpu": 1.3, "cuda": 1.8}


class PlainImages(Dataset[tuple[Tensor, Tensor]]):
    """Files and augmentation as a plain script has them."""

    def __init__(self, manifest: Manifest, config: Config) -> None:
        self.manifest, mean = manifest, (0.5, 0.5, 0.5)
        self.transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomResizedCrop(config.img_size, scale=config.scale),
                transforms.ToTensor(),
                transforms.Normalize(mean, mean),
            ]
        )

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture = Image.open(self.manifest.path_of(index)).convert("RGB")
        return self.transform(picture), torch.from_numpy((self.manifest.targets[index] == 1).astype(np.float32))


class PlainHeads(nn.Module):
    """CSRA as one 1 x 1 convolution a head, each with its own softmax."""

    def __init__(self, features: int, labels: int, temperatures: tuple[float, ...], lam: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(features, labels, 1, bias=False) for _ in temperatures)
        self.temperatures, self.lam = temperatures, lam

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, C) of features (B, d, h, w)."""
        total: Tensor | float = 0.0
        for convolution, temperature in zip(self.convolutions, self.temperatures, strict=True):
            norm = convolution.weight.norm(dim=1, keepdim=True).transpose(0, 1)
            scores = (convolution(features) / norm).flatten(2)
            attention = scores.max(2).values
            if np.isfinite(temperature):
                attention = (torch.softmax(scores * temperature, 2) * scores).sum(2)
            total = total + scores.mean(2) + self.lam * attention
        assert isinstance(total, Tensor)
        return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="trainval")
    parser.add_argument("--images", type=int, default=160, help="of the split, a round")
    parser.add_argument("--device", default="cpu", choices=list(SIDES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alternations", type=int, default=20, help="of CSRA and average pooling, one step each")
    args = parser.parse_args()
    manifest = DataFolder.load(args.data).manifest(args.split)
    manifest = manifest.subset(range(min(args.images, len(manifest))))
    device, (backbone, size, precision) = torch.device(args.device), SIDES[args.device]
    config = Config(
        backbone=backbone, img_size=size, heads=8, lam=1.0, pretrained=False, batch_size=16, epochs=1, lr=1e-3,
        schedule="constant", normalization="half",
    )  # fmt: skip
    print(describe_machine() + f", {torch.get_num_threads()} threads, {default_workers()} loader processes, {device}")
    whole_passes(manifest, config, device, precision, args.rounds, AIMS[args.device])
    head_in_a_step(manifest, config, device, precision, args.alternations)


def whole_passes(
    manifest: Manifest, config: Config, device: torch.device, precision: Precision, rounds: int, aim: float
) -> None:
    """One pass over the images by either side, in turn; what is built once is not counted."""
    sides = {"plain": plain(manifest, config, device, tf32=True)}
    if device.type == "cuda":
        sides["plain, TF32 off"] = plain(manifest, config, device, tf32=False)
    sides["mlrec"] = ours(manifest, config, device, precision)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for k in range(rounds + 1):
        for name, side in sides.items():
            spent = timed(lambda side=side: next(side), device)  # type: ignore[misc]
            if k:  # the first round warms up
                rates[name].append(len(manifest) / spent)
    for name, values in rates.items():
        print(f"{name:16} {np.median(values):8.1f} images/s trained, input included")
    for name in list(sides)[:-1]:
        pairs = [a / b for a, b in zip(rates["mlrec"], rates[name], strict=True)]
        tell(f"mlrec over {name}", pairs, f"to reach: {aim if name == 'plain' else 4}")


def plain(manifest: Manifest, config: Config, device: torch.device, *, tf32: bool) -> Iterator[None]:
    """A pass each time it is asked for."""
    model = fresh(manifest, config)
    temperatures = model.architecture.temperatures
    model.head = PlainHeads(model.backbone.num_features, len(manifest.labels), temperatures, config.lam)  # type: ignore[assignment]
    model.to(device).train()
    groups = [{"params": model.backbone.parameters()}, {"params": model.head.parameters(), "lr": 10 * config.lr}]
    optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=0.9, weight_decay=1e-4)
    loader = DataLoader(PlainImages(manifest, config), config.batch_size, shuffle=True, num_workers=default_workers())
    while True:
        torch.backends.cudnn.allow_tf32 = tf32
        for images, targets in loader:
            loss = nn.functional.binary_cross_entropy_with_logits(model(images.to(device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        yield


def ours(manifest: Manifest, config: Config, device: torch.device, precision: Precision) -> Iterator[None]:
    """A pass each time it is asked for."""
    model = fresh(manifest, config)
    state = setup.make_state(model, config, device, precision)
    network = setup.make_network(state, config, device, precision)
    steps = steps_per_epoch(len(manifest), config.batch_size)
    while True:
        prepare_device(device, precision)
        state.epoch = state.batch = 0
        batches = train_batches(manifest, config, model.preprocessing, epoch=0)
        for _ in fit(state, network, batches, loss_function(config, manifest), config, steps_per_epoch=steps):
            pass
        yield


def head_in_a_step(manifest: Manifest, config: Config, device: torch.device, precision: Precision, rounds: int) -> None:
    """A training step with eight heads over one with average pooling, the batch lying on the device."""
    prepare_device(device, precision)
    batch = next(train_batches(manifest, config, fresh(manifest, config).preprocessing, epoch=0)).to(device)
    steps = {head: stepper(manifest, config, head, batch, device, precision) for head in ("average", "csra")}
    memory, ratios = {}, []
    for k in range(rounds + 3):
        spent = {}
        for head in (("average", "csra"), ("csra", "average"))[k % 2]:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            spent[head] = timed(lambda head=head: next(steps[head]), device)  # type: ignore[misc]
            memory[head] = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else float("nan")
        if k >= 3:
            ratios.append(spent["csra"] / spent["average"])
    tell("a training step of CSRA H = 8 over average pooling", ratios, "to reach: 1.005 on a GPU; paper: 1.008")
    if device.type == "cuda":
        print(f"peak memory of the step: average {memory['average']:.2f} GB, CSRA {memory['csra']:.2f} GB")


def stepper(
    manifest: Manifest, config: Config, head: str, batch: Batch, device: torch.device, precision: Precision
) -> Iterator[None]:
    values = {name: getattr(config, name) for name in config.__struct_fields__} | {"head": head}
    chosen = Config(**values)
    state = setup.make_state(fresh(manifest, chosen), chosen, device, precision)
    network, loss = setup.make_network(state, chosen, device, precision), loss_function(chosen, manifest)
    network.module.train()
    while True:
        train_step(state, network, batch, loss, chosen)
        yield


def fresh(manifest: Manifest, config: Config) -> Classifier:
    return setup.build_model(config, manifest, paper=False)


def timed(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def tell(title: str, ratios: list[float], aim: str) -> None:
    middle, low, high = ratio_interval(ratios)
    print(f"{title}: {middle:.3f} (95 % interval {low:.3f} to {high:.3f}, {len(ratios)} alternations; {aim})")


if __name__ == "__main__":
    main()
