"""A dataset reader, a head, a loss and a metric for mlrec, in a package of their own."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mlrec import Manifest, Predictions
from mlrec.datasets.image_paths import Omitted, image_files
from mlrec.datasets.manifest import NEGATIVE, POSITIVE
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.training.losses import LossContext
from mlrec.utils.errors import ValidationReport


def recognizes(path: Path) -> str | None:
    """The reason why a folder is of this kind: its first image has a text file next to it."""
    image = next(iter(path.glob("*.[jJpP]*[gG]")), None)
    if image is None or not image.with_suffix(".txt").is_file():
        return None
    return f"{image.name} has {image.stem}.txt next to it"


def read_tag_files(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read a folder of images, each with a text file of the same name that has one label per line."""
    tags: dict[Path, list[str]] = {}
    for image in image_files(path, Omitted()):
        file = image.with_suffix(".txt")
        if file.exists():
            tags[image] = file.read_text(encoding="utf-8").splitlines()
        else:
            findings.error(str(image), f"no {file.name} next to it; write one, empty if the image has no label")
    labels = options.labels or tuple(sorted({tag for lines in tags.values() for tag in lines}))
    if not labels:
        findings.error(str(path), "no label in any text file")
        return Reading(path.name, [], {})
    targets = np.full((len(tags), len(labels)), NEGATIVE, dtype=np.int8)
    for row, lines in enumerate(tags.values()):
        targets[row, [labels.index(tag) for tag in lines if tag in labels]] = POSITIVE
    images = tuple(image.relative_to(path).as_posix() for image in tags)
    manifest = Manifest(path.name, "all", path.absolute(), labels, images, targets)
    return Reading(path.name, [manifest], {"path": str(path.absolute())})


class MaxPooling(nn.Module):
    """The highest score of each label over all locations."""

    OPTIONS: ClassVar[tuple[str, ...]] = ("dropout",)

    def __init__(self, in_features: int, num_labels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(in_features, num_labels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, C) of `features` (B, d, h, w)."""
        return self.location_scores(self.dropout(features)).amax(2)

    def location_scores(self, features: Tensor) -> Tensor:
        """The classifier at each location, (B, C, N)."""
        return self.classifier(features).flatten(2)

    def contributions(self, features: Tensor) -> Tensor:
        """The contribution of each location to the logit, (B, C, N): all of it at the maximum."""
        scores = self.location_scores(features)
        highest, place = scores.max(2, keepdim=True)
        return torch.zeros_like(scores).scatter_(2, place, highest)


def brier(logits: Tensor, positive: Tensor, context: LossContext) -> Tensor:  # noqa: ARG001 - one signature for all
    """Brier score (Brier 1950): the squared error (p - y)² of the probability, which no single sample can dominate."""
    return (torch.sigmoid(logits) - positive) ** 2


def coverage_error(predictions: Predictions) -> float | None:
    """How many labels, from the highest score down, must be taken to hold all positives of a sample: the mean.

    Samples without a positive are left out; without any positive the value is None.
    """
    assert predictions.targets is not None
    positive = predictions.targets == POSITIVE
    lowest = np.where(positive, predictions.logits, np.inf).min(axis=1, keepdims=True)
    taken = (predictions.logits >= lowest).sum(axis=1)[positive.any(axis=1)]
    if not taken.size:
        return None
    return float(taken.mean())
