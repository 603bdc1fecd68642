"""Batches of images for training and for evaluation, the same whatever the number of loader processes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.preprocessing import Preprocessing
from mlrec.training.dataloader import CPU, Batch, ImageBatches, run
from mlrec.training.sampler import eval_keys, steps_per_epoch, train_keys
from mlrec.training.transforms import Decode
from mlrec.utils.progress import SILENT, Progress

__all__ = ["Batch", "eval_batches", "steps_per_epoch", "train_batches"]


def train_batches(
    manifest: Manifest,
    config: Config,
    preprocessing: Preprocessing,
    *,
    epoch: int,
    start: int = 0,
    epochs: int = 1,
    rank: int = 0,
    world: int = 1,
    progress: Progress = SILENT,
    device: torch.device = CPU,
) -> Iterator[Batch]:
    """Augmented batches from batch `start` of `epoch` on, to the end of the last of `epochs` epochs.

    A batch is a function of (seed, epoch, place in the epoch): order and augmentation depend neither on the loader
    processes nor on where one starts. `config.batch_size` is that of all processes together; `rank` of `world` gets
    its part, for a model on `device`. Loader processes live through all `epochs`; close the iterator to end them early.

    Raises:
        DataError: an image that cannot be read, by its name; fewer samples than processes.
        MlrecError: a loader process that was killed or hangs.
    """
    keys = train_keys(
        manifest, config.batch_size, config.seed, epoch=epoch, start=start, epochs=epochs, rank=rank, world=world
    )
    total = steps_per_epoch(len(manifest), config.batch_size, world) * epochs - start
    images = ImageBatches(manifest, preprocessing, config.image_backend, config)
    largest = math.ceil(config.batch_size / world) + 2
    return run(images, keys, largest=largest, workers=config.workers, total=total, progress=progress, device=device)


def eval_batches(
    manifest: Manifest,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int | None = None,
    decode: Decode = "fast",
    rank: int = 0,
    world: int = 1,
    progress: Progress = SILENT,
    device: torch.device = CPU,
) -> Iterator[Batch]:
    """Plain views of every sample once, in batches of `batch_size` for each process, dealt in turn to `world` of them.

    All batches have one size: the last is filled up with copies whose place in `samples` is -1.

    Raises:
        DataError: an image that cannot be read, by its name.
        MlrecError: a loader process that was killed or hangs.
    """
    keys = eval_keys(len(manifest), batch_size, rank=rank, world=world)
    images = ImageBatches(manifest, preprocessing, decode, None)
    total = math.ceil(math.ceil(len(manifest) / batch_size) / world)
    largest = min(batch_size, len(manifest))
    return run(images, keys, largest=largest, workers=workers, total=total, progress=progress, device=device)
