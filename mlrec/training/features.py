"""Features of a frozen backbone, computed once and stored in memory that all processes share.

A head can be trained on the stored features in seconds. The backbone is in eval mode: BatchNorm uses stored statistics,
and dropout is disabled.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import Classifier
from mlrec.training import distributed
from mlrec.training.dataloader import Batch, ImageBatches, eval_keys, run, train_keys
from mlrec.training.devices import Precision, default_eval_batch
from mlrec.training.prediction import open_on
from mlrec.utils import processes
from mlrec.utils.errors import MlrecError
from mlrec.utils.processes import local_world
from mlrec.utils.progress import SILENT, Progress

logger = logging.getLogger(__name__)
# Config keys on which augmented copies depend.
VIEWS = (
    "feature_copies",
    "seed",
    "hflip",
    "crop",
    "scale",
    "ratio",
    "randaugment",
    "randaugment_magnitude",
    "cutout",
)
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the system folder for shared memory; small in containers
_numbers = itertools.count()


@dataclass(frozen=True, eq=False)
class Features:
    """Features of the N samples in a manifest.

    Attributes:
        manifest: Manifest of the split with N samples.
        values: Tensor (k, N, d, h, w) in the dtype of the backbone output, for k augmented copies of each sample; k is
            1 without augmentation.
    """

    manifest: Manifest
    values: Tensor


def compute_features(
    model: Classifier,
    manifest: Manifest,
    config: Config,
    *,
    device: torch.device,
    precision: Precision = "fp32",
    progress: Progress = SILENT,
) -> Features:
    """Compute the backbone features of all samples in a split once.

    If `config.feature_copies` is greater than 0, features are computed for this number of augmented copies of each
    sample, otherwise without augmentation. Copy k contains the augmented views of epoch k. The model is moved to
    `device` and remains in eval mode. With multiple processes, each process computes a part of the batches, and all
    processes on a machine share the memory of the result. Batches do not depend on the number of processes, so the
    features are bit-identical for any number of processes.

    Raises:
        DataError: An image cannot be read; the message states the file.
        MlrecError: The split has no samples, or the features or a batch do not fit into memory.
    """
    opened = open_on(model, device, precision, batch_flag="--eval-batch-size")
    images = ImageBatches(manifest, model.preprocessing, config.image_backend, config)
    epochs: list[int | None] = list(range(config.feature_copies)) or [None]
    size = config.eval_batch_size or default_eval_batch(config.batch_size, device)
    keys = [replace(key, epoch=k) for k in epochs for key in eval_keys(len(manifest), size, rank=0, world=1)]
    rank, world = processes.rank(), processes.world_size()
    rounds = [keys[first : first + world] for first in range(0, len(keys), world)]
    # Every process needs a batch in each round; in the last round, some processes repeat the last batch.
    own = [shared[min(rank, len(shared) - 1)] for shared in rounds]
    batches = run(images, own, largest=size, workers=config.workers, total=len(own), device=device)
    values = None
    with progress.task("features of the frozen backbone", len(epochs) * len(manifest)) as step:
        for shared, batch in zip(rounds, batches, strict=True):
            outputs = distributed.gather(opened.features(batch.images))
            if values is None:
                shape = (len(epochs), len(manifest), *outputs[0].shape[1:])
                values = _reserve(shape, outputs[0].dtype)
            for key, output in zip(shared, outputs, strict=False):
                if not int(os.environ.get("LOCAL_RANK", "0")):
                    values[key.epoch or 0, torch.from_numpy(key.samples)] = output[: len(key.samples)].cpu()
                step(len(key.samples))
    distributed.wait_for_all(device)
    if values is None:
        raise MlrecError(f"{manifest.name}/{manifest.split}: the split has no samples; choose a different split")
    return Features(manifest, values)


class FeatureCache:
    """Cache of features, indexed by backbone and samples.

    The cache is shared by evaluations and by runs that differ only in the head.

    Args:
        whole: Complete split, if features will be requested for parts of a split, such as cross-validation folds; None
            otherwise. Without augmentation, features are computed once for the complete split, and the requested
            samples are selected.
    """

    def __init__(self, whole: Manifest | None = None) -> None:
        self._whole = whole
        self._features: dict[tuple[object, ...], Features] = {}

    def get_or_compute(
        self,
        model: Classifier,
        manifest: Manifest,
        config: Config,
        *,
        device: torch.device,
        precision: Precision = "fp32",
        progress: Progress = SILENT,
    ) -> Features:
        """Return the features from the cache, or compute the features with `compute_features`."""
        how = {"device": device, "precision": precision, "progress": progress}
        whole = self._whole
        if whole is not None and whole is not manifest and not config.feature_copies and _holds(whole, manifest):
            position = {sample: k for k, sample in enumerate(whole.sample_ids)}
            rows = torch.tensor([position[sample] for sample in manifest.sample_ids])
            return Features(manifest, self.get_or_compute(model, whole, config, **how).values[:, rows])  # type: ignore[arg-type]
        views = [getattr(config, name) for name in VIEWS] if config.feature_copies else []
        key = (
            _digest(model),
            repr(model.preprocessing),
            _pictures(manifest),
            config.image_backend,
            device,
            precision,
            repr(views),
        )
        if key not in self._features:
            self._features[key] = compute_features(model, manifest, config, **how)  # type: ignore[arg-type]
        return replace(self._features[key], manifest=manifest)  # the targets may differ for the same images


def feature_batches(
    features: Features,
    config: Config,
    *,
    epoch: int,
    start: int = 0,
    epochs: int = 1,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Yield batches like `train_batches`, with features (B, d, h, w) as `images`.

    With k augmented copies, epoch e uses copy e mod k.
    """
    manifest, targets = features.manifest, torch.from_numpy(features.manifest.targets)
    for key in train_keys(manifest, config, epoch=epoch, start=start, epochs=epochs, rank=rank, world=world):
        samples = torch.from_numpy(key.samples)
        copy = (key.epoch or 0) % len(features.values)
        yield Batch(features.values[copy, samples.to(features.values.device)], targets[samples], samples, key.share)


def on_device_if_it_fits(features: Features, device: torch.device) -> Features:
    """Move features to the GPU if they need at most half of the free GPU memory.

    Features on the GPU do not have to be copied in each step.
    """
    if device.type != "cuda" or features.values.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return features
    return replace(features, values=features.values.to(device))


def _holds(whole: Manifest, part: Manifest) -> bool:
    """Return whether `whole` contains every sample in `part`, with the same files."""
    return whole.root == part.root and set(whole.sample_ids).issuperset(part.sample_ids)


def _pictures(manifest: Manifest) -> tuple[object, ...]:
    """Return a key for the image files and boxes of a manifest; labels are ignored."""
    boxes = None if manifest.boxes is None else manifest.boxes.tobytes()
    return manifest.root, manifest.images, boxes


def _digest(model: Classifier) -> str:
    """Return the SHA-256 digest of the backbone weights and buffers."""
    content = hashlib.sha256()
    for name, tensor in model.backbone.state_dict().items():
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return content.hexdigest()


def _reserve(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    need, free = torch.Size(shape).numel() * dtype.itemsize, _free_memory()
    if free is not None and need > free:
        raise MlrecError(
            f"the features of the frozen backbone need {need / 1e9:.1f} GB of memory, but only {free / 1e9:.1f} GB are "
            "free; reduce --feature-copies or --img-size, set --precision bf16, or train without --freeze-backbone"
        )
    logger.info(f"features: {' x '.join(map(str, shape))} {str(dtype).removeprefix('torch.')}, {need / 1e6:,.0f} MB")
    return shared_empty(shape, dtype)


def _free_memory() -> int | None:
    """Return the memory in bytes that is available without swapping.

    The result is None if the system does not report the value.
    """
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "darwin":
        return _free_memory_of_macos(subprocess.run(["/usr/bin/vm_stat"], capture_output=True, text=True).stdout)
    return None


def _free_memory_of_macos(report: str) -> int | None:
    """Return the free memory in bytes, from the output of `vm_stat`.

    The result is the total size of the pages that are listed as free, inactive, speculative or purgeable.
    """
    size = re.search(r"page size of (\d+) bytes", report)
    pages = re.findall(r"^Pages (?:free|inactive|speculative|purgeable): +(\d+)\.$", report, re.MULTILINE)
    if size and pages:
        return int(size[1]) * sum(map(int, pages))
    return None


def shared_empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Allocate an uninitialized CPU tensor in memory that is shared by all processes on this machine.

    All processes must call this function in the same order. The underlying file is deleted before the function returns,
    so that the memory is freed when the last process exits.

    Raises:
        MlrecError: Neither the shared memory nor the temporary folder has enough space.
    """
    if local_world() == 1:
        return torch.empty(shape, dtype=dtype)
    count, store = torch.Size(shape).numel(), distributed.store()
    key, local = f"shared-{platform.node()}-{next(_numbers)}", int(os.environ.get("LOCAL_RANK", "0"))
    if local:
        path = Path(store.get(key).decode())
        values = torch.from_file(str(path), shared=True, size=count, dtype=dtype)
        store.set(f"{key}-{local}", "")
        return values.view(shape)
    path = _file_of(count * dtype.itemsize)
    try:
        values = torch.from_file(str(path), shared=True, size=count, dtype=dtype)
        store.set(key, str(path))
        store.wait([f"{key}-{other}" for other in range(1, local_world())], distributed.TIMEOUT)
    finally:
        path.unlink()
    return values.view(shape)


def _file_of(size: int) -> Path:
    """Create a file with `size` reserved bytes.

    A full disk therefore raises an error instead of a later bus error.
    """
    folders = [folder for folder in (SHARED_MEMORY, Path(tempfile.gettempdir())) if folder.is_dir()]
    for folder in folders:
        if shutil.disk_usage(folder).free < size:
            continue
        number, name = tempfile.mkstemp(prefix="mlrec-features-", dir=folder)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(number, 0, size)
            else:
                os.truncate(number, size)  # macOS
            return Path(name)
        except OSError:
            Path(name).unlink()
        finally:
            os.close(number)
    raise MlrecError(
        f"{local_world()} processes need {size / 1e9:.1f} GB of shared memory, but there is not enough space in "
        f"{' or '.join(map(str, folders))}; free some space, set TMPDIR, or increase --shm-size "
        "in a container"
    )
