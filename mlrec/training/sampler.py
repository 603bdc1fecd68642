"""Which samples stand in which batch: a function of (seed, epoch) and of nothing else.

Samples of one image (persons of a picture) stand together, so that the image is decoded once for all of them that
share a batch: an epoch is a random order of images, and of the samples alone where each has an image of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import Manifest
from mlrec.utils.errors import DataError, counted

Positions = NDArray[np.intp]
_ORDER = 1  # keeps the stream of an epoch's order apart from the streams of its samples, rng([seed, epoch, sample])


@dataclass(frozen=True)
class BatchKey:
    """What a loader process needs in order to make one batch.

    Attributes:
        samples: positions in the manifest.
        epoch: of the augmentation; None for the plain view of evaluation.
        size: samples of the batch; beyond those in `samples` it is filled with copies of the last one, marked -1.
        share: processes times this part over the whole batch; 1 where the batch divides evenly.
    """

    samples: Positions
    epoch: int | None
    size: int
    share: float = 1.0


def epoch_order(manifest: Manifest, seed: int, epoch: int) -> Positions:
    """The order of an epoch: a permutation of the images, each with all its samples."""
    _, image = np.unique(np.array(manifest.images, dtype=object), return_inverse=True)
    places = np.random.default_rng([seed, epoch, 0, _ORDER]).permutation(int(image.max(initial=-1)) + 1)
    return np.argsort(places[image], kind="stable")


def batch_starts(samples: int, batch_size: int, world: int = 1) -> list[int]:
    """Where each batch of an epoch starts.

    A remainder too small to give every process two samples is merged into the batch before it: BatchNorm
    cannot train on one sample, and leaving it out would lose it.
    """
    starts = list(range(0, samples, batch_size))
    if len(starts) > 1 and samples - starts[-1] < 2 * world:
        starts.pop()
    return starts


def steps_per_epoch(samples: int, batch_size: int, world: int = 1) -> int:
    """Batches of an epoch, the same for every process."""
    return len(batch_starts(samples, batch_size, world))


def train_keys(
    manifest: Manifest, batch_size: int, seed: int, *, epoch: int, start: int, epochs: int, rank: int, world: int
) -> Iterator[BatchKey]:
    """Keys of the batches of `epochs` epochs from (`epoch`, `start`) on; of each batch the part of process `rank`.

    Raises:
        DataError: no sample, or fewer than processes.
    """
    if len(manifest) < world:
        raise DataError(
            f"{manifest.name}/{manifest.split}: {counted(len(manifest), 'sample')} for "
            f"{counted(world, 'process', 'processes')}; use fewer"
        )
    starts = batch_starts(len(manifest), batch_size, world)
    ends = [*starts[1:], len(manifest)]
    for current in range(epoch, epoch + epochs):
        order = epoch_order(manifest, seed, current)
        for k in range(start if current == epoch else 0, len(starts)):
            whole = order[starts[k] : ends[k]]
            part = whole[rank * len(whole) // world : (rank + 1) * len(whole) // world]
            yield BatchKey(part, current, len(part), len(part) * world / len(whole))


def eval_keys(samples: int, batch_size: int, *, rank: int, world: int) -> Iterator[BatchKey]:
    """Keys of the batches of an evaluation, dealt in turn to the processes.

    Batch k holds the same samples whatever the number of processes, and all batches have one size, so that a
    sample's logits do not depend, to the last bit, on who computes them.
    """
    size = min(batch_size, samples)
    for k in range(rank, math.ceil(samples / size) if size else 0, world):
        yield BatchKey(np.arange(k * size, min((k + 1) * size, samples)), None, size)
