"""Test-time augmentation: the mean logits over multiple views of each image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import Classifier
from mlrec.predictions import Predictions
from mlrec.training.prediction import DEFAULT, InferenceOptions, predict
from mlrec.utils.errors import UsageError
from mlrec.utils.progress import SILENT, Progress

STRIDE = 32  # pixels; sizes are multiples of this stride, as most backbones require
SMALLEST, LARGEST = 0.25, 4.0  # scales


@dataclass(frozen=True)
class Views:
    """Views of an image over which logits are averaged.

    There is one view per scale, and mirrored views are added if `flip` is set.

    Attributes:
        flip: Whether to add the mirror image of each view.
        scales: Input side lengths, as factors of the training size.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    @classmethod
    def parse(cls, text: str) -> Views:
        """Parse a comma-separated list of `flip` and scales, such as `flip,1,1.25`; the default scale is 1.

        Raises:
            UsageError: An entry is neither `flip` nor a scale from 0.25 to 4, or is listed twice.

        Example:
            >>> Views.parse("flip,0.75,1")
            Views(flip=True, scales=(0.75, 1.0))
        """
        parts = [part.strip() for part in text.split(",")]
        scales = []
        for part in parts:
            if part == "flip":
                continue
            try:
                scales.append(float(part))
            except ValueError:
                scales.append(math.nan)
            if not SMALLEST <= scales[-1] <= LARGEST:
                raise UsageError(f"--tta {text}: '{part}' is invalid; use flip or a scale from 0.25 to 4")
        if len(set(parts)) < len(parts) or len(set(scales)) < len(scales):
            raise UsageError(f"--tta {text}: a view is listed twice; list each view once")
        return cls("flip" in parts, tuple(scales) or (1.0,))

    def sizes(self, size: int) -> list[int]:
        """Return the side lengths in pixels for a model with input size `size`.

        Each length is a multiple of 32; for scale 1, the length is `size`.

        Example:
            >>> Views(scales=(0.75, 1.0, 1.25)).sizes(224)
            [160, 224, 288]
        """
        return [size if scale == 1 else max(STRIDE, STRIDE * round(size * scale / STRIDE)) for scale in self.scales]


def predict_views(
    model: Classifier,
    manifest: Manifest,
    options: InferenceOptions = DEFAULT,
    progress: Progress = SILENT,
    *,
    views: Views,
) -> Predictions:
    """Compute the mean logits over all views of each image; each view is evaluated by `predict`.

    Args:
        model: Classifier with the labels of the manifest, in the same order.
        manifest: Manifest of the split.
        options: Batch size, device and other options; `mirror` is set for each view.
        progress: Progress display.
        views: Views over which to average.

    Raises:
        ModelError: The backbone supports only one image size.
        MlrecError: See `predict`.
    """
    own = model.preprocessing
    total = np.zeros((len(manifest), len(manifest.labels)))
    mirrored: tuple[bool, ...] = (False,)
    if views.flip:
        mirrored = (False, True)
    try:
        for size in views.sizes(own.size):
            model.preprocessing = replace(own, size=size)
            for mirror in mirrored:
                predictions = predict(model, manifest, replace(options, mirror=mirror), progress)
                total += predictions.logits
    finally:
        model.preprocessing = own
    mean = (total / (len(views.scales) * len(mirrored))).astype(np.float32)
    return replace(predictions, logits=mean)
