"""`ImageBatches`, which makes a batch from its key, and `run`, which makes them in other processes.

What goes wrong in a loader process reaches the user as one line: the file's name, or what to do about the machine.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from mlrec.config import Config
from mlrec.datasets.images.decode import Pixels, Stored, crop, load, upright
from mlrec.datasets.manifest import Manifest
from mlrec.models.preprocessing import Preprocessing
from mlrec.training.sampler import BatchKey
from mlrec.training.transforms import VIEWS, Decode, draw_view
from mlrec.utils import signals
from mlrec.utils.errors import DataError, MlrecError, counted, printable
from mlrec.utils.processes import own_cores
from mlrec.utils.progress import Progress
from mlrec.utils.threads import thread_map

try:
    import resource
except ModuleNotFoundError:  # Windows
    resource = None  # type: ignore[assignment]

MOST_WORKERS = 16
PREFETCH = 2  # batches each loader process has ready
NICE = 5  # beside a model on the CPU, see `default_workers`
TIMEOUT = 300.0  # seconds without a batch after which a loader process counts as hung
OPEN_FILES = Path("/dev/fd")
FILES_PER_WORKER = 3 + 3 * (PREFETCH + 1)  # pipes, and the tensors of batches on their way
OTHER_FILES = 12  # images, checkpoints and the log
CPU = torch.device("cpu")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where torch hands batches from process to process


class Batch(NamedTuple):
    """Samples of one step.

    Attributes:
        images: (B, 3, S, S) uint8 in channels-last memory, see `normalize`; of cached features (B, d, h, w) floats.
        targets: (B, C) int8; 1 positive, 0 negative, -1 unknown.
        samples: (B,) int64 positions in the manifest; -1 fills the last batch of an evaluation and is to be dropped.
        share: weight of this process's mean loss among all processes', so that their mean is the whole batch's.
    """

    images: Tensor
    targets: Tensor
    samples: Tensor
    share: float = 1.0

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`, copied without waiting where its memory is pinned."""
        images, targets, samples = (part.to(device, non_blocking=True) for part in self[:3])
        return Batch(images, targets, samples, self.share)


class ImageBatches(Dataset[Batch | MlrecError]):
    """Batches of a manifest by key; with a config the augmented views of training, else the plain ones."""

    def __init__(self, manifest: Manifest, preprocessing: Preprocessing, decode: Decode, config: Config | None):
        self.manifest, self.preprocessing, self.config = manifest, preprocessing, config
        self.decode = decode
        self.targets = torch.from_numpy(np.ascontiguousarray(manifest.targets))

    def __getitem__(self, key: BatchKey) -> Batch | MlrecError:
        """The batch, or the error that the process which asked shall raise."""
        try:
            batch = self._batch(key)
        except MlrecError as error:
            return error
        if get_worker_info() is not None:
            for part in batch[:3]:  # here, where a lack of shared memory can be told; the queue would hang in silence
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
        return Batch(images, self.targets[samples.clamp(min=0)], samples, key.share)

    @contextmanager
    def _loaded(self, names: Iterable[str]) -> Iterator[Iterator[Stored]]:
        """The decoded images in turn: by all cores here, by one in a loader process, which has others beside it."""

        def decoded(name: str) -> Stored:
            return load(self.manifest.root / name, self.decode)

        if get_worker_info() is not None:
            yield map(decoded, names)
            return
        with thread_map(decoded, names, threads=own_cores(), ahead=own_cores()) as loaded:
            yield loaded

    def _fill(self, images: Tensor, places: list[int], key: BatchKey, stored: Stored, path: Path) -> None:
        """Put the views of all samples of one image in their places."""
        for place in places:
            sample = int(key.samples[place])
            pixels = stored.pixels if self.manifest.boxes is None else crop(stored.pixels, self.manifest.boxes[sample])
            images[place] = self._view(upright(pixels, stored.orientation), key.epoch, sample, path)

    def _view(self, pixels: Pixels, epoch: int | None, sample: int, path: Path) -> Tensor:
        height, width = pixels.shape[:2]
        if not height or not width:
            raise DataError(f"{printable(path)}: the box of '{printable(self.manifest.sample_ids[sample])}' is empty")
        size = self.preprocessing.size
        view = draw_view(self.config, epoch, sample, height, width, size) if self.config and epoch is not None else None
        return VIEWS[self.decode](pixels, view, size, self.preprocessing.interpolation)


def run(
    batches: ImageBatches,
    keys: Iterable[BatchKey],
    *,
    largest: int,
    workers: int | None,
    total: int,
    progress: Progress,
    device: torch.device = CPU,
) -> Iterator[Batch]:
    """The batch of each key, in order, made by `workers` other processes ahead of time.

    Args:
        batches: what makes them.
        keys: of the batches wanted.
        largest: samples of the largest batch.
        workers: processes; 0 = this one makes them, decoding with all its cores; None = `default_workers`.
        total: batches; more processes than that are not started.
        progress: is told where shared memory allows fewer processes.
        device: of the model; memory is pinned for CUDA only, and loader processes make way for a model on the CPU.

    Raises:
        MlrecError: what the batch says; a process killed or hung, with what to do about it.
    """
    size = batches.preprocessing.size
    processes = min(default_workers(device) if workers is None else workers, total)
    processes = fitting_files(fitting(processes, largest * 3 * size**2, progress), progress)
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
        generator=torch.Generator(),  # else the loader draws from torch's own stream, which dropout uses
    )
    try:
        with signals.blocked_signals():
            made = iter(loader)
        for batch in made:
            if isinstance(batch, MlrecError):
                raise batch
            yield batch
    except (RuntimeError, OSError, EOFError) as error:
        raise _worker_error(error) from error


def default_workers(device: torch.device) -> int:
    """Loader processes for each process of training: the cores it may use, at most 16; none for a model on the CPU.

    All threads of such a model wait when one loses its core to a loader process. It is faster to decode with all cores
    between two steps: docs/performance.md.
    """
    return min(own_cores(), MOST_WORKERS) if device.type != "cpu" and own_cores() > 1 else 0


def fitting(workers: int, batch_bytes: int, progress: Progress) -> int:
    """As many of `workers` as shared memory has room for; fewer are told."""
    if not workers or not SHARED_MEMORY.is_dir():
        return workers
    free, each = shutil.disk_usage(SHARED_MEMORY).free, (PREFETCH + 1) * batch_bytes
    fit = min(workers, free // each)
    if fit < workers:
        progress.warn(
            f"shared memory ({SHARED_MEMORY}) has {free / 1e6:,.0f} MB free, "
            f"{counted(workers, 'loader process', 'loader processes')} need "
            f"{workers * each / 1e6:,.0f} MB: using {fit}; in a container raise --shm-size or use --ipc=host"
        )
    return fit


def fitting_files(workers: int, progress: Progress) -> int:
    """As many of `workers` as the limit of open files allows, which is raised if the system permits it.

    torch passes each tensor of a batch between processes as an open file. A process that reaches the limit hangs or
    prints a traceback of its own, so this is checked before any is started.
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
    progress.warn(
        f"open files are limited to {hard} (ulimit -n), {counted(workers, 'dataloader worker')} may need {needed}: "
        f"using {fit}; raise the limit"
    )
    return fit


def _worker_error(error: Exception) -> Exception:
    """An error of the loader as one that says what to do; any other as it is."""
    text = str(error)
    if "shared memory" in text or "bus error" in text.lower():
        return MlrecError("loader processes ran out of shared memory; use fewer --workers, in a container --shm-size")
    if "exited unexpectedly" in text or "is killed by signal" in text:
        return MlrecError("a loader process was killed, by lack of memory most likely; use fewer --workers")
    if "timed out" in text:
        return MlrecError(f"no batch for {TIMEOUT:.0f} s: a loader process hangs; check the disk, or use --workers 0")
    if "Too many open files" in text:
        return MlrecError("too many open files; raise the limit (ulimit -n) or use fewer --workers")
    return error


def _start_worker(_: int, nice: int) -> None:
    """Have this loader process make way for others by `nice`, and end with the process that started it.

    torch's own watch asks for the parent's number when the process has started: a parent that is gone by then is never
    missed. A signal to all processes of a terminal or a job is the parent's to answer: here SIGINT and SIGTERM are
    blocked. A forked process inherits that, one of a fork server does not.
    """
    if nice and hasattr(os, "nice"):
        os.nice(nice)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    threading.Thread(target=_leave_without_parent, daemon=True).start()


def _leave_without_parent() -> None:
    """End this process when its parent has ended, or has sent SIGTERM.

    The parent is the process that asked for this one. By the number of the parent process alone it cannot be told:
    a fork server stands between the two. The pipe to it stays open in other forked processes, so both are watched.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    is_child = os.getppid() == parent.pid
    while parent.is_alive() and (not is_child or os.getppid() == parent.pid):
        if not hasattr(signal, "sigtimedwait"):
            time.sleep(1)  # macOS
        elif (told := signal.sigtimedwait((signal.SIGTERM,), 1)) is not None and told.si_pid == parent.pid:
            os._exit(0)
    os._exit(1)


def _same(batch: Batch | MlrecError) -> Batch | MlrecError:
    return batch
