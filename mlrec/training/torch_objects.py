"""Data and metrics of mlrec as objects of torch, for a training loop of another library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mlrec.datasets.manifest import Manifest
from mlrec.metrics.conventions import Conventions, ScoreKind
from mlrec.metrics.metric import Metric
from mlrec.metrics.precision_recall import Threshold
from mlrec.metrics.summary import FLAT_NAMES
from mlrec.utils.errors import MlrecError, UsageError, nearest

if TYPE_CHECKING:
    from mlrec.training.torch_metric import TorchMetric


class ManifestDataset(Dataset[tuple[Any, Tensor]]):
    """Images and targets of a manifest by position; see `torch_dataset`.

    Attributes:
        manifest: Samples.
        transform: Function of a `PIL.Image.Image`, or None.
    """

    def __init__(self, manifest: Manifest, transform: Callable[[Any], Any] | None) -> None:
        self.manifest = manifest
        self.transform = transform

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, place: int) -> tuple[Any, Tensor]:
        from PIL import Image

        sample = self.manifest[int(place)]
        image: Any = Image.fromarray(sample.pixels())
        if self.transform is not None:
            image = self.transform(image)
        return image, torch.tensor(sample.target, dtype=torch.float32)


def torch_dataset(manifest: Manifest, transform: Callable[[Any], Any] | None = None) -> ManifestDataset:
    """Return a map-style `torch.utils.data.Dataset` of (image, target), for a `DataLoader` with any number of workers.

    Args:
        manifest: Samples; of a sample with a box, the image is the box.
        transform: Function of an upright RGB `PIL.Image.Image`, such as transforms of torchvision or timm. None: the
            image itself.

    Returns:
        A dataset. Its targets are (C,) float32: 1 positive, 0 negative, -1 unknown; exclude -1 from the loss.

    Raises:
        DataError: An image is missing or cannot be read; raised when it is asked for.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> Image.new("RGB", (6, 4), "red").save("a.png")
        >>> manifest = Manifest("pets", "val", Path(), ("cat", "dog"), ("a.png",), np.array([[1, -1]], np.int8))
        >>> image, target = torch_dataset(manifest, lambda image: image.resize((2, 2)))[0]
        >>> image.size, target
        ((2, 2), tensor([ 1., -1.]))
    """
    return ManifestDataset(manifest, transform)


def torch_metric(
    labels: Sequence[str] | None = None,
    conventions: str | Conventions = "mlrec",
    *,
    scores: ScoreKind | None = None,
    threshold: Threshold | None = None,
    value: str = "mAP",
) -> TorchMetric:
    """Return a metric of torchmetrics, so that `self.log("val/mAP", metric)` works in Lightning, also on many devices.

    It takes batches as `Metric` does and has the same exact results. Processes may have different numbers of samples;
    copies that a distributed sampler adds do not count if `update` gets the positions of the samples as `ids`.
    `metric.metrics()` returns all numbers as `Metrics`.

    Args:
        labels: C unique names. None: "0", "1", ...
        conventions: Name of conventions, or a `Conventions` object.
        scores: "logits" or "probabilities"; needed if no score is negative.
        threshold: Lowest score of a predicted label: one number, or one per label (C,).
        value: Number that `compute` returns: a name in `Metrics.flat()`, such as "mAP", "OF1" or "top3/CF1".

    Raises:
        UsageError: There is no number of that name, or there are no such conventions.
        MlrecError: torchmetrics is not installed.

    Example:
        >>> metric = torch_metric(["cat", "dog"])
        >>> metric.update(torch.tensor([[2.0, -1.0], [-3.0, 0.5]]), torch.tensor([[1, 0], [0, 1]]))
        >>> metric.compute().item(), metric.metrics().OF1
        (1.0, 1.0)
    """
    if value not in FLAT_NAMES:
        raise UsageError(f"value='{value}'{nearest(value, FLAT_NAMES)}; use one of {', '.join(FLAT_NAMES)}")
    try:
        from mlrec.training.torch_metric import TorchMetric
    except ImportError as error:
        raise MlrecError("torch_metric needs torchmetrics; install it with pip install torchmetrics") from error
    return TorchMetric(Metric(labels, conventions, scores=scores, threshold=threshold), value)
