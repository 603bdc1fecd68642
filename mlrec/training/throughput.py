"""Training speed: GPU utilization (MFU), estimated training time, and bottlenecks."""

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
from mlrec.training.devices import Precision, autocast, explained
from mlrec.utils import processes
from mlrec.utils.errors import counted

# Peak rates for dense matrix products in 1e12 floating-point operations per second, from the vendor's data sheets,
# without sparsity: bf16 and fp16 (before Ampere only fp16), TF32, float32. The key is a part of the name that torch
# reports; the first match is used.
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

IMAGES_DECODED = 32  # number of images for measuring the decoding rate
STEPS_TIMED, STEPS_BEFORE = 5, 3  # timed steps, and untimed steps in which kernels are chosen and memory is allocated
TRAINING_FACTOR = 3.0  # training step relative to a forward pass; the backward pass takes as long as two


@dataclass(frozen=True)
class Meter:
    """Measurement of images per second, waiting time, GPU utilization and memory of a run.

    Attributes:
        device: Device of this process.
        flops: FLOPs per image in a training step; None if they are not counted.
        peak: Total peak rate of all GPUs in the job, in floating-point operations per second; None if unknown.
    """

    device: torch.device
    flops: int | None
    peak: float | None

    @classmethod
    def of(cls, model: Classifier, device: torch.device, precision: Precision, *, frozen: bool) -> Meter:
        """Create the meter for a run.

        Operations are counted only if the peak rate of the GPU is known and the backbone is trained.
        """
        gpu = ""
        if device.type == "cuda":
            gpu = torch.cuda.get_device_name(device)
            torch.cuda.reset_peak_memory_stats(device)  # exclude earlier runs in this process, as in a sweep
        peak = peak_flops(gpu, precision)
        if peak is None or frozen:
            return cls(device, None, None)
        return cls(device, training_flops(model), peak * processes.world_size())

    def entry(self, images_per_second: float, waited: float) -> dict[str, float | None]:
        """Return the values for a line in `log.jsonl`.

        Args:
            images_per_second: Images per second over all processes.
            waited: Time in seconds that this process waited for batches.

        Returns:
            Dict with the keys `images_per_second`, `data_seconds`, `mfu` and `peak_memory`. `mfu` is a fraction, or
            None if unknown. `peak_memory` is the maximum number of bytes that PyTorch allocated on the GPU, or None
            without a GPU.
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
    """Return the peak rate of a GPU in floating-point operations per second; None if the GPU is not in `PEAKS`."""
    for name, (half, tf32, full) in PEAKS.items():
        if f" {name}" in f" {gpu}":
            return 1e12 * {"bf16": half, "fp16": half, "tf32": tf32, "fp32": full}[precision]
    return None


def training_flops(model: Classifier) -> int | None:
    """Count the FLOPs that a training step needs per image.

    Only convolutions and matrix products are counted. The forward and backward passes are run with a copy of the model
    on the meta device. A multiplication and an addition count as two FLOPs. None is returned if the model does not
    run on the meta device.
    """
    size = model.preprocessing.size
    try:
        # Replace tensors before copying, because the copy would otherwise require memory for a second model on the GPU.
        tensors = [*model.parameters(), *model.buffers()]
        on_meta = {id(tensor): torch.empty_like(tensor, device="meta") for tensor in tensors}
        for parameter in model.parameters():
            on_meta[id(parameter)] = nn.Parameter(on_meta[id(parameter)], requires_grad=parameter.requires_grad)
        empty = copy.deepcopy(model, on_meta).train()
        if hasattr(empty.backbone.timm_model, "set_grad_checkpointing"):
            empty.backbone.timm_model.set_grad_checkpointing(False)  # count repeated operations only once
        images = torch.empty(2, 3, size, size, device="meta")
        with FlopCounterMode(display=False) as counter:
            loss: torch.Tensor = nn.functional.softplus(empty.head(empty.backbone(images))).mean()
            torch.autograd.backward(loss)
    except (RuntimeError, NotImplementedError, AssertionError):  # an operation has no meta kernel or no counting rule
        return None
    return int(counter.get_total_flops()) // len(images)


def seconds_per_image(model: Classifier, device: torch.device, precision: Precision) -> float:
    """Measure the time of a forward pass for one image, in seconds.

    The model and the random state do not change. The faster of two passes is returned.
    """
    size, training = model.preprocessing.size, model.training
    image = torch.zeros(1, 3, size, size, device=device)
    seconds = []
    model.eval()
    try:
        for _ in range(2):  # in the first pass, memory is allocated and kernels are chosen
            started = time.perf_counter()
            with torch.no_grad(), autocast(device, precision):
                model(image)
            seconds.append(time.perf_counter() - started)
    finally:
        model.train(training)
    return min(seconds)


def training_seconds(per_image: float, samples: int, scored: int, epochs: int, evaluations: int) -> float:
    """Estimate the training time in seconds, without image decoding, from the time of a forward pass.

    Args:
        per_image: Time in seconds of a forward pass for one image.
        samples: Number of images in the training split.
        scored: Number of images in the evaluated split.
        epochs: Number of epochs.
        evaluations: Number of passes over the evaluated split.

    Example:
        >>> training_seconds(0.1, samples=100, scored=50, epochs=2, evaluations=1)
        65.0
    """
    return per_image * (TRAINING_FACTOR * samples * epochs + scored * evaluations)


@dataclass(frozen=True)
class Speed:
    """Speed of image loading and of the device; the slower one is the bottleneck of training.

    Attributes:
        decoding: Time in seconds that one core needs to read, decode and augment an image.
        computing: Time in seconds that a training step on the device needs per image.
        workers: Number of dataloader workers. With 0, the training process decodes images between steps, with all
            cores.
        cores: Number of cores available to this process.
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
        """Whether image loading is the bottleneck, so that the device waits for images."""
        return self._data_rate < 1 / self.computing

    @property
    def _data_rate(self) -> float:
        return min(self.workers or self.cores, self.cores) / self.decoding

    def in_words(self) -> str:
        """Return a text with the speed of image loading, the speed of the device, and the bottleneck."""
        source = counted(self.workers, "dataloader worker") if self.workers else counted(self.cores, "core")
        limit = "the device"
        if self.data_limits:
            limit = "the data path"
        data, device = _rate(self._data_rate), _rate(1 / self.computing)
        return f"data: {data} images/s with {source}; {self.device}: {device} images/s; {limit} limits training"

    def advice(self) -> str:
        """Return advice on how to load images faster; "" if the device is the bottleneck."""
        if not self.data_limits:
            return ""
        enough = math.ceil(self.decoding / self.computing)
        if self.workers and self.workers < self.cores:
            return f"use --workers {min(enough, self.cores)}"
        return "all cores decode: store smaller copies of the images, use more cores, or --freeze-backbone"


def decoding_seconds(manifest: Manifest, config: Config, preprocessing: Preprocessing) -> float:
    """Measure how many seconds one core needs on average to load and augment a training image.

    Raises:
        DataError: An image cannot be read; the message states the file.
    """
    from mlrec.training.dataloader import BatchKey, ImageBatches

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
    """Measure the time in seconds that the device needs per image.

    If the backbone is frozen, the time to compute the features is measured, otherwise the time of a training step. On a
    GPU, complete steps with the batch size of the run are measured, which also shows whether the memory is sufficient.
    On a CPU, the time of a step is estimated from a forward pass.

    Args:
        model: Model of the run. On a GPU, the model is moved to the device and, unless the backbone is frozen, trained.
        manifest: Training split, which defines the labels.
        config: Config of the run.
        device: Device of the run.
        precision: Precision of the run.

    Raises:
        RunError: The device ran out of memory; the message states the setting to change.
    """
    from mlrec.training import setup
    from mlrec.training.dataloader import Batch
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
