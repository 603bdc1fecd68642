"""Selection of the samples in each batch, which depends only on the seed and the epoch.

An epoch is a random permutation of the images. Samples from the same image, such as persons, are adjacent in this
order, so each image is decoded only once per batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlrec.config import Config
from mlrec.datasets.manifest import POSITIVE, Manifest
from mlrec.utils.errors import DataError, counted

Positions = NDArray[np.intp]
_ORDER = 1  # separates the random stream of the order from the streams of the samples, rng([seed, epoch, sample])


@dataclass(frozen=True)
class BatchKey:
    """Key from which a dataloader worker creates one batch.

    Attributes:
        samples: Positions in the manifest.
        epoch: Epoch of the augmentation; None for evaluation, without augmentation.
        size: Size of the batch; smaller batches are padded with copies of the last sample, marked by -1.
        share: Number of processes times the fraction of the batch that this process receives; 1 if all parts are equal.
    """

    samples: Positions
    epoch: int | None
    size: int
    share: float = 1.0


def epoch_order(manifest: Manifest, seed: int, epoch: int) -> Positions:
    """Return the sample order for an epoch: a random order of images, with all samples of each image."""
    image = manifest.image_ranks
    places = np.random.default_rng([seed, epoch, 0, _ORDER]).permutation(int(image.max(initial=-1)) + 1)
    return np.argsort(places[image], kind="stable")


def class_aware_order(manifest: Manifest, seed: int, epoch: int) -> Positions:
    """Return the order for class-aware sampling (Shen et al., ECCV 2016).

    There is one draw per sample in the manifest. Each draw selects a label with uniform probability, then a positive
    sample for this label. Samples without a positive label are never drawn.

    Raises:
        DataError: No sample has a positive label.
    """
    row, label = np.nonzero(manifest.targets == POSITIVE)
    if not len(row):
        raise DataError(
            f"{manifest.name}/{manifest.split}: no positive labels, which class-aware sampling requires; use --sampler "
            "shuffle"
        )
    rows = row[np.argsort(label, kind="stable")]
    counts = np.bincount(label, minlength=len(manifest.labels))
    starts = np.cumsum(counts) - counts
    generator = np.random.default_rng([seed, epoch, 0, _ORDER])
    drawn = generator.choice(np.flatnonzero(counts), len(manifest))
    picked: Positions = rows[starts[drawn] + (generator.random(len(manifest)) * counts[drawn]).astype(np.intp)]
    return picked


ORDERS = {"shuffle": epoch_order, "class-aware": class_aware_order}


def batch_starts(samples: int, batch_size: int, world: int = 1) -> list[int]:
    """Return the position at which each batch of an epoch starts.

    A remainder with fewer than two samples per process is merged into the previous batch, because BatchNorm cannot
    train on one sample.
    """
    starts = list(range(0, samples, batch_size))
    if len(starts) > 1 and samples - starts[-1] < 2 * world:
        starts.pop()
    return starts


def steps_per_epoch(samples: int, batch_size: int, world: int = 1) -> int:
    """Return the number of batches in an epoch, which is the same for all processes."""
    return len(batch_starts(samples, batch_size, world))


def train_keys(
    manifest: Manifest, config: Config, *, epoch: int, start: int, epochs: int, rank: int, world: int
) -> Iterator[BatchKey]:
    """Yield the keys for `epochs` epochs, starting with batch `start` of `epoch`.

    Each key contains the part of the batch that belongs to process `rank`.

    Raises:
        DataError: There are fewer samples than processes.
    """
    if len(manifest) < world:
        raise DataError(
            f"{manifest.name}/{manifest.split}: only {counted(len(manifest), 'sample')} for "
            f"{counted(world, 'process', 'processes')}; use fewer processes"
        )
    starts = batch_starts(len(manifest), config.batch_size, world)
    ends = [*starts[1:], len(manifest)]
    for current in range(epoch, epoch + epochs):
        order = ORDERS[config.sampler](manifest, config.seed, current)
        for k in range(start if current == epoch else 0, len(starts)):
            whole = order[starts[k] : ends[k]]
            part = whole[rank * len(whole) // world : (rank + 1) * len(whole) // world]
            yield BatchKey(part, current, len(part), len(part) * world / len(whole))


def eval_keys(samples: int, batch_size: int, *, rank: int, world: int) -> Iterator[BatchKey]:
    """Yield the batch keys for an evaluation, distributed over processes in round-robin order.

    Batches do not depend on the number of processes, and all batches have the same size. The logits of a sample are
    therefore bit-exact for any number of processes.
    """
    size = min(batch_size, samples)
    for k in range(rank, math.ceil(samples / size) if size else 0, world):
        yield BatchKey(np.arange(k * size, min((k + 1) * size, samples)), None, size)
