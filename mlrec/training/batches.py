"""Batches of images for training and evaluation, independent of the number of dataloader workers."""

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
    device: torch.device = CPU,
) -> Iterator[Batch]:
    """Yield augmented batches from batch `start` of `epoch` to the end of the last of `epochs` epochs.

    A batch depends only on seed, epoch and position in the epoch: neither the number of workers nor the start changes
    order or augmentation. `config.batch_size` is that of all processes together; process `rank` of `world` gets its
    part. Workers stay for all `epochs`; close the iterator to end them earlier.

    Raises:
        DataError: An image cannot be read; or there are fewer samples than processes.
        MlrecError: A worker was killed or hangs.
    """
    keys = train_keys(manifest, config, epoch=epoch, start=start, epochs=epochs, rank=rank, world=world)
    total = steps_per_epoch(len(manifest), config.batch_size, world) * epochs - start
    images = ImageBatches(manifest, preprocessing, config.image_backend, config)
    largest = math.ceil(config.batch_size / world) + 2
    return run(images, keys, largest=largest, workers=config.workers, total=total, device=device)


def eval_batches(
    manifest: Manifest,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int | None = None,
    decode: Decode = "fast",
    rank: int = 0,
    world: int = 1,
    device: torch.device = CPU,
) -> Iterator[Batch]:
    """Yield every sample once without augmentation, in batches of `batch_size`, distributed over processes in turn.

    All batches have one size: the last one is filled with copies, marked -1 in `samples`.

    Raises:
        DataError: An image cannot be read; names it.
        MlrecError: A worker was killed or hangs.
    """
    keys = eval_keys(len(manifest), batch_size, rank=rank, world=world)
    images = ImageBatches(manifest, preprocessing, decode, None)
    total = math.ceil(math.ceil(len(manifest) / batch_size) / world)
    largest = min(batch_size, len(manifest))
    return run(images, keys, largest=largest, workers=workers, total=total, device=device)
