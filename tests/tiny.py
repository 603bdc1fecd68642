"""A dataset small enough to train on within a test: which of three colors a picture shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mlrec.datasets import dataset
from mlrec.datasets.dataset import Info
from mlrec.datasets.manifest import Manifest

LABELS = ("blue", "green", "red")
SIZES = {"train": 13, "val": 9}
# flags under which a run takes a second: no hub, a small backbone, one thread's worth of work
FAST = {
    "backbone": "test_efficientnet", "pretrained": False, "img_size": 32, "batch_size": 4, "epochs": 2, "workers": 0,
    "device": "cpu", "warmup_epochs": 0.0, "lr": 0.02,
}  # fmt: skip


def make_tiny(root: Path, name: str = "tiny") -> Path:
    """Write pictures and manifests below `root`; returns the folder of the prepared dataset."""
    pictures, target = root / "pictures", root / "data" / name
    pictures.mkdir(parents=True)
    target.mkdir(parents=True)
    manifests = [_split(pictures, name, split, count) for split, count in SIZES.items()]
    info = Info(name, {"kind": "csv"}, "paper", list(LABELS), dict(SIZES))
    dataset.write(target, info, manifests)
    return target


def _split(pictures: Path, name: str, split: str, count: int) -> Manifest:
    rng = np.random.default_rng([len(split), count])
    targets = rng.integers(0, 2, (count, 3)).astype(np.int8)
    targets[:3] = np.eye(3, dtype=np.int8)
    names = []
    for k, row in enumerate(targets):
        pixels = rng.integers(0, 60, (36, 44, 3), dtype=np.uint8)
        for label in np.flatnonzero(row):
            top, left = rng.integers(0, 20, 2)
            pixels[top : top + 16, left : left + 16] = 255 * np.eye(3, dtype=np.uint8)[2 - label]
        names.append(f"{split}{k:02}.png")
        Image.fromarray(pixels).save(pictures / names[-1])
    targets[3, 1] = -1 if split == "val" else targets[3, 1]
    return Manifest(name, split, pictures, LABELS, tuple(names), targets)
