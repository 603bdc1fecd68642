"""Speed of training: utilization of a GPU (MFU), the time that a training will take, and what limits it."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import Classifier
from mlrec.models.preprocessing import Preprocessing
from mlrec.training.devices import Precision, autocast
from mlrec.utils import processes
from mlrec.utils.errors import counted

# Dense matrix products in 1e12 floating-point operations per second, from the vendor's data sheets, without sparsity:
# bf16 and fp16 (before Ampere fp16 only), TF32, float32. By a part of the name that torch reports; the first that fits.
PEAKS: dict[str, tuple[float, float, float]] = {
    "B200": (2250, 1100, 75),
    "GH200": (989, 494, 67),
    "H200 NVL": (835, 417, 60),
    "H200": (989, 494, 67),
    "H100 PCIe": (756, 378, 51),
    "H100 NVL": (835, 417, 60),
    "H100": (989, 494, 67),
    "A100": (312, 156, 19.5),
    "A40": (149.7, 74.8, 37.4),
    "A30": (165, 82, 10.3),
    "A10G": (70, 35, 35),
    "A10": (125, 62.5, 31.2),
    "L40S": (362, 183, 91.6),
    "L40": (181, 90.5, 90.5),
    "L4": (121, 60, 30.3),
    "RTX A6000": (154.8, 77.4, 38.7),
    "RTX 4090": (165.2, 82.6, 82.6),
    "RTX 3090": (71, 35.6, 35.6),
    "V100": (125, 15.7, 15.7),
    "T4": (65, 8.1, 8.1),
}

IMAGES_DECODED = 32  # for the decoding rate
STEPS_TIMED, STEPS_BEFORE = 5, 3  # the first steps choose kernels and allocate memory
TRAINING_FACTOR = 3.0  # time of a training step relative to a forward pass: one forward, two for the backward pass


@dataclass(frozen=True)
class Meter:
    """Speed of a run: images per second, waiting time, GPU utilization and memory.

    Attributes:
        device: Device of this process.
        flops: Floating-point operations of a training step per image; None if not counted.
        peak: Peak rate of all GPUs of the job, in floating-point operations per second; None if unknown.
    """

    device: torch.device
    flops: int | None
    peak: float | None

    @classmethod
    def of(cls, model: Classifier, device: torch.device, precision: Precision, *, frozen: bool) -> Meter:
        """Create the meter of a run. Operations are counted only if the peak is known and the backbone is trained."""
        gpu = ""
        if device.type == "cuda":
            gpu = torch.cuda.get_device_name(device)
            torch.cuda.reset_peak_memory_stats(device)  # earlier runs of this process, as in a sweep, do not count
        peak = peak_flops(gpu, precision)
        if peak is None or frozen:
            return cls(device, None, None)
        return cls(device, training_flops(model), peak * processes.world_size())

    def entry(self, images_per_second: float, waited: float) -> dict[str, float | None]:
        """Return the values of a line of `log.jsonl`.

        Args:
            images_per_second: Images per second of all processes.
            waited: Seconds in which this process waited for batches.

        Returns:
            `images_per_second`, `data_seconds`, `mfu` (a fraction; None = unknown) and `peak_memory` (maximum of the
            bytes that PyTorch allocated on the GPU; None = no GPU).
        """
        mfu = None
        if self.flops and self.peak:
            mfu = self.flops * images_per_second / self.peak
        return {
            "images_per_second": round(images_per_second, 2),
            "data_seconds": round(waited, 4),
            "mfu": None if mfu is None else round(mfu, 4),
            "peak_memory": torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None,
        }


def peak_flops(gpu: str, precision: str) -> float | None:
    """Return the peak floating-point operations per second of a GPU; None if `PEAKS` does not list it."""
    for name, (half, tf32, full) in PEAKS.items():
        if f" {name}" in f" {gpu}":
            return 1e12 * {"bf16": half, "fp16": half, "tf32": tf32, "fp32": full}[precision]
    return None


def training_flops(model: Classifier) -> int | None:
    """Count the floating-point operations of convolutions and matrix products in a training step, per image.

    They are counted on a copy on the meta device, forward and backward; a multiplication and an addition are two
    operations. None for a model that does not run there.
    """
    size = model.preprocessing.size
    try:
        # Tensors are replaced before the copy, which would otherwise need the memory of a second model on the GPU.
        tensors = [*model.parameters(), *model.buffers()]
        on_meta = {id(tensor): torch.empty_like(tensor, device="meta") for tensor in tensors}
        for parameter in model.parameters():
            on_meta[id(parameter)] = nn.Parameter(on_meta[id(parameter)], requires_grad=parameter.requires_grad)
        empty = copy.deepcopy(model, on_meta).train()
        if hasattr(empty.backbone.timm_model, "set_grad_checkpointing"):
            empty.backbone.timm_model.set_grad_checkpointing(False)  # repeated operations count once
        images = torch.empty(2, 3, size, size, device="meta")
        with FlopCounterMode(display=False) as counter:
            loss: torch.Tensor = nn.functional.softplus(empty.head(empty.backbone(images))).mean()
            torch.autograd.backward(loss)
    except (RuntimeError, NotImplementedError, AssertionError):  # operations without a meta kernel, or without a count
        return None
    return int(counter.get_total_flops()) // len(images)


def seconds_per_image(model: Classifier, device: torch.device, precision: Precision) -> float:
    """Measure the seconds of a forward pass of one image, the faster of two; model and random state do not change."""
    size, training = model.preprocessing.size, model.training
    image = torch.zeros(1, 3, size, size, device=device)
    seconds = []
    model.eval()
    try:
        for _ in range(2):  # the first pass allocates memory and chooses kernels
            started = time.perf_counter()
            with torch.no_grad(), autocast(device, precision):
                model(image)
            seconds.append(time.perf_counter() - started)
    finally:
        model.train(training)
    return min(seconds)


def training_seconds(per_image: float, samples: int, scored: int, epochs: int, evaluations: int) -> float:
    """Estimate the seconds of a whole training from those of a forward pass, without decoding.

    Args:
        per_image: Seconds of a forward pass of one image.
        samples: Images of the training split.
        scored: Images of the scored split.
        epochs: Number of epochs.
        evaluations: Number of passes over the scored split.

    Example:
        >>> training_seconds(0.1, samples=100, scored=50, epochs=2, evaluations=1)
        65.0
    """
    return per_image * (TRAINING_FACTOR * samples * epochs + scored * evaluations)


@dataclass(frozen=True)
class Speed:
    """What training is limited by: reading and decoding images, or the device.

    Attributes:
        decoding: Seconds in which one core reads, decodes and augments an image.
        computing: Seconds in which the device trains on an image.
        workers: Dataloader workers; with 0, all cores decode between two steps.
        cores: Cores of this process.
        device: Name of the device.

    Example:
        >>> speed = Speed(decoding=1 / 200, computing=1 / 2400, workers=4, cores=16, device="cuda:0")
        >>> print(speed.in_words())
        data: 800 images/s with 4 dataloader workers; cuda:0: 2,400 images/s; the data path limits training
        >>> print(speed.advice())
        use --workers 12
    """

    decoding: float
    computing: float
    workers: int
    cores: int
    device: str

    @property
    def data_limits(self) -> bool:
        """Whether the device waits for images."""
        return self._data_rate < 1 / self.computing

    @property
    def _data_rate(self) -> float:
        return min(self.workers or self.cores, self.cores) / self.decoding

    def in_words(self) -> str:
        """Return both rates, and which one limits training."""
        source = counted(self.workers, "dataloader worker") if self.workers else counted(self.cores, "core")
        limit = "the device"
        if self.data_limits:
            limit = "the data path"
        data, device = _rate(self._data_rate), _rate(1 / self.computing)
        return f"data: {data} images/s with {source}; {self.device}: {device} images/s; {limit} limits training"

    def advice(self) -> str:
        """Return how to make the data path faster; empty if the device limits training."""
        if not self.data_limits:
            return ""
        enough = math.ceil(self.decoding / self.computing)
        if self.workers and self.workers < self.cores:
            return f"use --workers {min(enough, self.cores)}"
        return "all cores decode: store smaller copies of the images, use more cores, or --freeze-backbone"


def decoding_seconds(manifest: Manifest, config: Config, preprocessing: Preprocessing) -> float:
    """Measure the mean seconds in which one core reads, decodes and augments a training image.

    Raises:
        DataError: An image cannot be read; names it.
    """
    from mlrec.training.dataloader import ImageBatches
    from mlrec.training.sampler import BatchKey

    images = ImageBatches(manifest, preprocessing, config.image_backend, config)
    count = min(IMAGES_DECODED, len(manifest))
    samples = np.random.default_rng(0).choice(len(manifest), count, replace=False)
    started = time.perf_counter()
    for sample in samples:
        batch = images[BatchKey(np.array([sample]), 0, 1)]
        if isinstance(batch, Exception):
            raise batch
    return (time.perf_counter() - started) / count


def computing_seconds(
    model: Classifier, manifest: Manifest, config: Config, device: torch.device, precision: Precision
) -> float:
    """Measure the seconds in which the device trains on an image; with a frozen backbone, computes its features.

    On a GPU these are whole steps with the batch size of the run, which also shows whether memory suffices. On a CPU
    the time of a step is estimated from a forward pass.

    Args:
        model: Model of the run; it is moved to the device and trained.
        manifest: Training split, for its labels.
        config: Config of the run.
        device: Device of the run.
        precision: Precision of the run.

    Raises:
        RunError: Out of memory; names what to change.
    """
    from mlrec.training import setup
    from mlrec.training.dataloader import Batch
    from mlrec.training.failures import explained
    from mlrec.training.loop import train_step
    from mlrec.training.losses import loss_function
    from mlrec.training.prediction import open_on

    if device.type == "cpu":
        factor = TRAINING_FACTOR
        if config.freeze_backbone:
            factor = 1.0
        return factor * seconds_per_image(model.to(memory_format=torch.channels_last), device, precision)
    size = model.preprocessing.size
    images = torch.zeros(config.batch_size, 3, size, size, dtype=torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(config.batch_size, len(manifest.labels), dtype=torch.int8)
    batch = Batch(images, targets, torch.arange(config.batch_size)).to(device)
    setup.prepare_process(config, device, precision)
    with explained(config, device, precision):
        if config.freeze_backbone:
            opened = open_on(model, device, precision)
        else:
            state = setup.make_state(model, config, device, precision)
            network = setup.make_network(state, config, device, precision)
            network.module.train()
            loss = loss_function(config, manifest)
        for k in range(STEPS_BEFORE + STEPS_TIMED):
            if k == STEPS_BEFORE:
                torch.accelerator.synchronize(device)
                started = time.perf_counter()
            if config.freeze_backbone:
                opened.features(batch.images)
            else:
                train_step(state, network, batch, loss, config)
        torch.accelerator.synchronize(device)
    return (time.perf_counter() - started) / (STEPS_TIMED * config.batch_size)


def _rate(value: float) -> str:
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}"
