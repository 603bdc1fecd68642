"""mlrec datasets and metrics as torch objects, for use in training loops of other libraries."""

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
from mlrec.utils.errors import DataError, MlrecError, UsageError, nearest

if TYPE_CHECKING:
    from mlrec.training.torch_metric import TorchMetric


class ManifestDataset(Dataset[tuple[Any, Tensor]]):
    """Dataset of the images and targets in a manifest, indexed by position; see `torch_dataset`.

    Attributes:
        manifest: Manifest with the samples.
        transform: Function that is applied to a `PIL.Image.Image`, or None.
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
    """Return a map-style `torch.utils.data.Dataset` of pairs (image, target).

    The dataset can be used in a `DataLoader` with any number of workers.

    Args:
        manifest: Manifest with the samples; for a sample with a box, the image is cropped to the box.
        transform: Function that is applied to an upright RGB `PIL.Image.Image`, such as a torchvision or timm transform
            [default: no transform].

    Returns:
        Dataset whose targets are (C,) float32 tensors of 1 (positive), 0 (negative) or -1 (unknown). Exclude targets of
        -1 from the loss.

    Raises:
        DataError: An image is missing or cannot be read (raised when the sample is accessed), or `manifest` is not a
            manifest.

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
    if not isinstance(manifest, Manifest):
        raise DataError(f"expected a Manifest, got {type(manifest).__name__}; load it with Manifest.load(path)")
    return ManifestDataset(manifest, transform)


def torch_metric(
    labels: Sequence[str] | None = None,
    conventions: str | Conventions = "mlrec",
    *,
    scores: ScoreKind | None = None,
    threshold: Threshold | None = None,
    value: str = "mAP",
) -> TorchMetric:
    """Return a torchmetrics metric that can be logged in Lightning.

    `self.log("val/mAP", metric)` works in Lightning, even on multiple devices. The metric accepts the same batches as
    `Metric` and returns exactly the same results. Processes may have different numbers of samples. Copies added by a
    distributed sampler are ignored if the sample positions are passed to `update` as `ids`. `metric.metrics()` returns
    a `Metrics` object with all values.

    Args:
        labels: Unique names of the C labels [default: "0", "1", ...].
        conventions: Name of the scoring conventions, or a `Conventions` object.
        scores: "logits" or "probabilities"; required if no score is negative.
        threshold: Minimum score for predicting a label: a single number, or an array (C,) with one number per label.
        value: Name of the value that `compute` returns, such as "mAP", "OF1" or "top3/CF1". All names are in
            `Metrics.flat()`.

    Raises:
        UsageError: The value or the conventions are unknown.
        MlrecError: torchmetrics is not installed.

    Example:
        >>> metric = torch_metric(["cat", "dog"])
        >>> metric.update(torch.tensor([[2.0, -1.0], [-3.0, 0.5]]), torch.tensor([[1, 0], [0, 1]]))
        >>> metric.compute().item(), metric.metrics().OF1
        (1.0, 1.0)
    """
    if value not in FLAT_NAMES:
        raise UsageError(f"value='{value}' is not one of {', '.join(FLAT_NAMES)}{nearest(value, FLAT_NAMES)}")
    try:
        from mlrec.training.torch_metric import TorchMetric
    except ImportError as error:
        raise MlrecError("torch_metric requires torchmetrics; run pip install torchmetrics") from error
    return TorchMetric(Metric(labels, conventions, scores=scores, threshold=threshold), value)
