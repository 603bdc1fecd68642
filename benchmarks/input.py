"""Input path: a JPEG file → an augmented batch of 448 px, on one core, over the reference path.

    python benchmarks/input.py FOLDER_OF_JPEGS [--rounds 20] [--workers 0]

The reference is the paper's code as described: PIL, torchvision transforms v1 (flip, random resized crop, resize,
to float, normalize by 0 and 1) and the default collation of float batches. Both sides run in this process tree, on one
core, in alternation; the figure is the ratio of images per second and its 95% interval over the rounds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from paired import describe_machine, ratio_interval
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.preprocessing import Preprocessing
from mlrec.training.dataloader import train_batches

SIZE, BATCH = 448, 16


class Reference(Dataset[torch.Tensor]):
    """Files as the paper's code reads them."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomResizedCrop(SIZE, scale=(0.7, 1.0)),
                transforms.Resize((SIZE, SIZE)),
                transforms.ToTensor(),
                transforms.Normalize(mean=[0, 0, 0], std=[1, 1, 1]),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[index]).convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)

    found = sorted(args.folder.rglob("*.jpg"))
    files = [file for file in found if sorted(Image.open(file).size) == [480, 640]]
    files = (files * (BATCH * 8 // max(len(files), 1) + 1))[: BATCH * 8]
    names = tuple(str(file.relative_to(args.folder)) for file in files)
    manifest = Manifest(
        "input", "train", args.folder, ("label",), names, np.zeros((len(files), 1), np.int8),
        sample_ids=tuple(map(str, range(len(files)))),
    )  # fmt: skip
    config = Config(batch_size=BATCH, img_size=SIZE, workers=args.workers)
    preprocessing = Preprocessing(SIZE)

    def reference() -> Iterable[object]:
        return DataLoader(Reference(files), batch_size=BATCH, shuffle=True, num_workers=args.workers)

    def ours(epoch: int) -> Iterable[object]:
        return train_batches(manifest, config, preprocessing, epoch=epoch)

    rate(reference, len(files)), rate(lambda: ours(0), len(files))  # warm the file cache and the imports
    rates = [(rate(reference, len(files)), rate(lambda k=k: ours(k), len(files))) for k in range(args.rounds)]
    print(describe_machine())
    slow, fast = (np.median(side) for side in zip(*rates, strict=True))
    middle, low, high = ratio_interval([fast / slow for slow, fast in rates])
    print(f"reference {slow:.0f} images/s, mlrec {fast:.0f} images/s")
    print(f"ratio {middle:.2f} (95% interval {low:.2f} to {high:.2f}, {args.rounds} alternations; to reach: 2.7)")


def rate(batches: Callable[[], Iterable[object]], images: int) -> float:
    start = time.perf_counter()
    for _ in batches():
        pass
    return images / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
