"""Image batches for training and evaluation: selection of samples, and loading in worker processes.

The order of the samples depends only on the seed and the epoch. By default, an epoch is a random permutation of the
images, and samples from the same image (for example, one per person) are adjacent. Each image is decoded only once per
batch.

Batches do not depend on the number of workers. Errors in workers are reported in one line, which names the unreadable
file or the setting to change.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from mlrec.config import Config
from mlrec.datasets.images.decode import Pixels, Stored, crop, load, upright
from mlrec.datasets.manifest import POSITIVE, Manifest
from mlrec.models.preprocessing import Preprocessing
from mlrec.training.transforms import VIEWS, Decode, draw_view
from mlrec.utils import signals
from mlrec.utils.errors import DataError, MlrecError, counted
from mlrec.utils.processes import own_cores
from mlrec.utils.threads import thread_map

logger = logging.getLogger(__name__)
try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None  # type: ignore[assignment]

MAX_WORKERS = 16
PREFETCH = 2  # batches that each worker prefetches
NICE = 5  # niceness of workers if the model is on the CPU, see `default_workers`
TIMEOUT = 300.0  # seconds without a batch after which a worker is considered hung
OPEN_FILES = Path("/dev/fd")
FILES_PER_WORKER = 3 + 3 * (PREFETCH + 1)  # pipes, and the tensors of batches in transit
OTHER_FILES = 12  # images, checkpoints and the log
CPU = torch.device("cpu")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - torch passes batches between processes through this folder
Positions = NDArray[np.intp]
_ORDER = 1  # separates the random stream of the order from the streams of the samples, rng([seed, epoch, sample])


@dataclass(frozen=True)
class BatchKey:
    """Key from which a dataloader worker creates one batch.

    Attributes:
        samples: Positions of the samples in the manifest.
        epoch: Epoch that determines the augmentation; None for evaluation, which uses no augmentation.
        size: Batch size. If there are fewer samples, the batch is padded with copies of the last sample, which have
            position -1.
        share: Fraction of the batch that this process receives, multiplied by the number of processes; 1 if all
            processes receive equal parts.
    """

    samples: Positions
    epoch: int | None
    size: int
    share: float = 1.0


def epoch_order(manifest: Manifest, seed: int, epoch: int) -> Positions:
    """Return the sample order for an epoch: images in random order, each with all of its samples."""
    image = manifest.image_ranks
    places = np.random.default_rng([seed, epoch, 0, _ORDER]).permutation(int(image.max(initial=-1)) + 1)
    return np.argsort(places[image], kind="stable")


def class_aware_order(manifest: Manifest, seed: int, epoch: int) -> Positions:
    """Return the sample order for an epoch with class-aware sampling (Shen et al., ECCV 2016).

    The number of draws is equal to the number of samples in the manifest. Each draw selects a label with uniform
    probability, then a positive sample for this label. Samples without a positive label are never drawn.

    Raises:
        DataError: No sample has a positive label.
    """
    row, label = np.nonzero(manifest.targets == POSITIVE)
    if not len(row):
        raise DataError(
            f"{manifest.name}/{manifest.split}: class-aware sampling requires positive labels, but the split "
            "has none; use --sampler shuffle"
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
    """Yield the batch keys for `epochs` epochs, starting with batch `start` of epoch `epoch`.

    Each key contains only the samples of the batch that process `rank` receives.

    Raises:
        DataError: There are fewer samples than processes, or class-aware sampling finds no positive label.
    """
    if len(manifest) < world:
        raise DataError(
            f"{manifest.name}/{manifest.split}: the split has only {counted(len(manifest), 'sample')} for "
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
    therefore bit-identical for any number of processes.
    """
    size = min(batch_size, samples)
    for k in range(rank, math.ceil(samples / size) if size else 0, world):
        yield BatchKey(np.arange(k * size, min((k + 1) * size, samples)), None, size)


class Batch(NamedTuple):
    """Images and targets of the samples in one step.

    Attributes:
        images: Tensor (B, 3, S, S) of uint8 images in channels-last memory format, see `normalize`; or cached features
            (B, d, h, w).
        targets: Int8 tensor (B, C) of 1 (positive), 0 (negative) or -1 (unknown); meaningless for padding copies.
        samples: Int64 positions (B,) of the samples in the manifest; -1 for copies that pad the last batch of an
            evaluation.
        share: Factor by which this process multiplies its mean loss. With this factor, the mean over processes is the
            mean loss of the complete batch.
    """

    images: Tensor
    targets: Tensor
    samples: Tensor
    share: float = 1.0

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to `device`; the copy is asynchronous if the memory is pinned."""
        images, targets, samples = (part.to(device, non_blocking=True) for part in self[:3])
        return Batch(images, targets, samples, self.share)


class ImageBatches(Dataset[Batch | MlrecError]):
    """Dataset that creates a batch for each key; images are augmented only if a config is set."""

    def __init__(self, manifest: Manifest, preprocessing: Preprocessing, decode: Decode, config: Config | None):
        self.manifest, self.preprocessing, self.config = manifest, preprocessing, config
        self.decode = decode

    def __getitem__(self, key: BatchKey) -> Batch | MlrecError:
        """Return the batch, or an error for the main process to raise."""
        try:
            batch = self._batch(key)
        except MlrecError as error:
            return error
        if get_worker_info() is not None:
            # Move tensors to shared memory here, because a lack of memory raises an error here but hangs in the queue.
            for part in batch[:3]:
                part.share_memory_()  # type: ignore[no-untyped-call]
        return batch

    def _batch(self, key: BatchKey) -> Batch:
        size, count = self.preprocessing.size, len(key.samples)
        images = torch.empty((key.size, 3, size, size), dtype=torch.uint8, memory_format=torch.channels_last)
        places: dict[str, list[int]] = {}
        for place, sample in enumerate(key.samples.tolist()):
            places.setdefault(self.manifest.images[sample], []).append(place)
        with self._loaded(places) as loaded:
            for (name, at), stored in zip(places.items(), loaded, strict=True):
                self._fill(images, at, key, stored, self.manifest.root / name)
        images[count:] = images[count - 1]
        samples = torch.full((key.size,), -1, dtype=torch.int64)
        samples[:count] = torch.from_numpy(key.samples)
        targets = torch.from_numpy(self.manifest.target_rows(samples.clamp(min=0).numpy()))
        return Batch(images, targets, samples, key.share)

    @contextmanager
    def _loaded(self, names: Iterable[str]) -> Iterator[Iterator[Stored]]:
        """Decode images in order, with all cores in the main process and with one thread in a worker."""

        def decoded(name: str) -> Stored:
            return load(self.manifest.root / name, self.decode)

        if get_worker_info() is not None:
            yield map(decoded, names)
            return
        with thread_map(decoded, names, threads=own_cores(), ahead=own_cores()) as loaded:
            yield loaded

    def _fill(self, images: Tensor, places: list[int], key: BatchKey, stored: Stored, path: Path) -> None:
        """Write the views of all samples in one image to the corresponding rows of the batch."""
        for place in places:
            sample = int(key.samples[place])
            pixels = stored.pixels
            if self.manifest.boxes is not None:
                pixels = crop(stored.pixels, self.manifest.boxes[sample])
            images[place] = self._view(upright(pixels, stored.orientation), key.epoch, sample, path)

    def _view(self, pixels: Pixels, epoch: int | None, sample: int, path: Path) -> Tensor:
        height, width = pixels.shape[:2]
        if not height or not width:
            raise DataError(f"{path}: the box of '{self.manifest.sample_ids[sample]}' is empty; correct the box")
        size = self.preprocessing.size
        view = None
        if self.config and epoch is not None:
            view = draw_view(self.config, epoch, sample, height, width, size)
        return VIEWS[self.decode](pixels, view, size, self.preprocessing.interpolation)


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
    """Yield augmented batches for `epochs` epochs, starting with batch `start` of epoch `epoch`.

    A batch depends only on the seed, the epoch and the position in the epoch. Batches do not depend on the number of
    workers or on `start`. `config.batch_size` is the total over all processes, and process `rank` of `world` receives a
    part of each batch. Workers run until all epochs are finished; close the iterator to stop the workers earlier.

    Raises:
        DataError: An image cannot be read, there are fewer samples than processes, or class-aware sampling finds no
            positive label.
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
    """Yield each sample once without augmentation, in batches of `batch_size`.

    The batches are distributed over `world` processes, and process `rank` receives its part. All batches have the same
    size, which is the number of samples if `batch_size` is greater. The last batch is padded with copies, which are
    marked by -1 in `samples`.

    Raises:
        DataError: An image cannot be read; the message states the file.
        MlrecError: A worker was killed or hangs.
    """
    keys = eval_keys(len(manifest), batch_size, rank=rank, world=world)
    images = ImageBatches(manifest, preprocessing, decode, None)
    total = math.ceil(math.ceil(len(manifest) / batch_size) / world)
    largest = min(batch_size, len(manifest))
    return run(images, keys, largest=largest, workers=workers, total=total, device=device)


def run(
    batches: ImageBatches,
    keys: Iterable[BatchKey],
    *,
    largest: int,
    workers: int | None,
    total: int,
    device: torch.device = CPU,
) -> Iterator[Batch]:
    """Yield one batch per key, in order; dataloader workers prefetch the batches.

    Args:
        batches: Dataset that creates a batch from a key.
        keys: Keys of the batches.
        largest: Number of samples in the largest batch.
        workers: Number of worker processes; None means the result of `default_workers`. With 0, this process creates
            the batches and decodes images with all cores. The number is reduced if the shared memory or the limit on
            open files requires it.
        total: Number of batches, which limits the number of workers.
        device: Device of the model. Memory is pinned for CUDA; if the model is on the CPU, workers have low priority.

    Raises:
        MlrecError: An image cannot be read, or a worker was killed or hangs; the message states a setting to change.
    """
    size = batches.preprocessing.size
    processes = min(default_workers(device) if workers is None else workers, total)
    processes = fitting_files(fitting(processes, largest * 3 * size**2))
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=keys,
        num_workers=processes,
        collate_fn=_same,  # type: ignore[arg-type]
        worker_init_fn=partial(_start_worker, nice=NICE if device.type == "cpu" else 0),
        pin_memory=device.type == "cuda",
        timeout=TIMEOUT if processes else 0,
        prefetch_factor=PREFETCH if processes else None,
        generator=torch.Generator(),  # keeps the loader from advancing torch's default generator, which dropout uses
    )
    try:
        with signals.blocked_signals():
            prefetched = iter(loader)
        for batch in prefetched:
            if isinstance(batch, MlrecError):
                raise batch
            yield batch
    except (RuntimeError, OSError, EOFError) as error:
        raise _worker_error(error) from error


def default_workers(device: torch.device) -> int:
    """Return the default number of workers per process.

    The default is one worker per core, but at most 16. For a model on the CPU, or with only one core, the default is 0.

    A model on the CPU uses all cores. If a worker occupies a core, one thread of the model is slower, and all other
    threads wait for it. Decoding with all cores between two steps is therefore faster; measurements are in
    docs/performance.md.
    """
    if device.type == "cpu" or own_cores() == 1:
        return 0
    return min(own_cores(), MAX_WORKERS)


def fitting(workers: int, batch_bytes: int) -> int:
    """Return `workers`, or a smaller number (with a warning) if shared memory is too small."""
    if not workers or not SHARED_MEMORY.is_dir():
        return workers
    free, each = shutil.disk_usage(SHARED_MEMORY).free, (PREFETCH + 1) * batch_bytes
    fit = min(workers, free // each)
    if fit < workers:
        logger.warning(
            f"shared memory ({SHARED_MEMORY}) has {free / 1e6:,.0f} MB free, but "
            f"{counted(workers, 'dataloader worker')} would need "
            f"{workers * each / 1e6:,.0f} MB; the number of workers was reduced to {fit}. In a container, increase "
            "--shm-size or use --ipc=host"
        )
    return fit


def fitting_files(workers: int) -> int:
    """Return `workers`, or a smaller number (with a warning) if the limit on open files requires it.

    The limit is first increased if the system permits it. torch passes each tensor in a batch between processes as an
    open file, and a process that reaches the limit hangs or prints a traceback. The limit on open files is therefore
    checked before workers start.
    """
    if not workers or resource is None or not OPEN_FILES.is_dir():
        return workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    used = len(list(OPEN_FILES.iterdir())) + OTHER_FILES
    needed = used + workers * FILES_PER_WORKER
    if soft == unlimited or needed <= soft:
        return workers
    if hard == unlimited or needed <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return workers
    fit = max(0, hard - used) // FILES_PER_WORKER
    logger.warning(
        f"the limit on open files is {hard} (ulimit -n), but {counted(workers, 'dataloader worker')} may need "
        f"{needed}; the number of workers was reduced to {fit}. Raise the limit to use more workers"
    )
    return fit


def _worker_error(error: Exception) -> Exception:
    """Convert a worker error to an error that states a setting to change.

    Other errors are returned unchanged.
    """
    text = str(error)
    if "shared memory" in text or "bus error" in text.lower():
        return MlrecError("out of shared memory; reduce --workers, or increase --shm-size in a container")
    if "exited unexpectedly" in text or "is killed by signal" in text:
        return MlrecError("a dataloader worker was killed, probably because memory ran out; reduce --workers")
    if "timed out" in text:
        return MlrecError(
            f"no batch arrived within {TIMEOUT:.0f} s, probably because a dataloader worker hangs; check the disk, or "
            "use --workers 0"
        )
    if "Too many open files" in text:
        return MlrecError("too many open files; raise the limit (ulimit -n) or reduce --workers")
    return error


def _start_worker(_: int, nice: int) -> None:
    """Lower the priority of this worker by `nice`, and make the worker end when its parent process ends.

    The worker ends together with the process that started it. torch's own watchdog reads the PID of the parent after
    startup and does not notice a parent that has already exited. SIGINT and SIGTERM, which a terminal or a job
    scheduler sends to all processes, are handled by the parent and blocked here. A forked process inherits the blocked
    signals, but a process started by a fork server does not.
    """
    if nice and hasattr(os, "nice"):
        os.nice(nice)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    threading.Thread(target=_leave_without_parent, daemon=True).start()


def _leave_without_parent() -> None:
    """End this process when the parent has exited or sent SIGTERM.

    The parent is the process that requested this worker. Checking the PID of the parent is not sufficient, because a
    fork server may be in between. Checking the pipe to the parent is not sufficient either, because other forked
    processes keep the pipe open. Therefore, both are checked.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    is_child = os.getppid() == parent.pid
    while parent.is_alive() and (not is_child or os.getppid() == parent.pid):
        if not hasattr(signal, "sigtimedwait"):
            time.sleep(1)  # macOS
            continue
        received = signal.sigtimedwait((signal.SIGTERM,), 1)
        if received is not None and received.si_pid == parent.pid:
            os._exit(0)
    os._exit(1)


def _same(batch: Batch | MlrecError) -> Batch | MlrecError:
    return batch
