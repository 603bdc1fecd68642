"""Start of training on a large manifest: time to the first batch, and what each dataloader worker has in memory.

    python benchmarks/scale_start.py MANIFEST fork|spawn|forkserver

The images of the first batches are written below the root of the manifest; all others need not exist. `scale.py` runs
this script.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch.multiprocessing
from PIL import Image

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.preprocessing import Preprocessing
from mlrec.training.dataloader import epoch_order, train_batches

BATCH, WORKERS, SMALL, AHEAD = 16, 2, 1000, 20
CONFIG = Config(batch_size=BATCH, workers=WORKERS, seed=0)


def main() -> None:
    path, method = Path(sys.argv[1]), sys.argv[2]
    torch.multiprocessing.set_start_method(method)
    write_images(Manifest.load(path))
    begun = time.perf_counter()
    manifest = Manifest.load(path)
    loaded = time.perf_counter()
    seconds, own = first_batch(manifest)
    few = manifest.subset(np.arange(SMALL))
    write_images(few)
    _, small = first_batch(few)
    print(
        f"load {loaded - begun:.2f} s, first batch after {seconds:.2f} s, own memory of a worker {own:.0f} MB, "
        f"with {SMALL:,} samples {small:.0f} MB"
    )


def first_batch(manifest: Manifest) -> tuple[float, float]:
    """Seconds until the first batch, and the largest memory in MB that a worker shares with no other process."""
    begun = time.perf_counter()
    batches = train_batches(manifest, CONFIG, Preprocessing(32), epoch=0)
    next(batches)
    seconds = time.perf_counter() - begun
    own = max(private(child) for child in torch.multiprocessing.active_children())
    batches.close()  # type: ignore[attr-defined]
    return seconds, own


def private(process: object) -> float:
    """Private pages of a process in MB."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()  # type: ignore[attr-defined]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


def write_images(manifest: Manifest) -> None:
    """Write small images for the samples of the first batches."""
    for sample in epoch_order(manifest, CONFIG.seed, 0)[: AHEAD * BATCH].tolist():
        file = manifest.path_of(sample)
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32)).save(file)


if __name__ == "__main__":
    main()
