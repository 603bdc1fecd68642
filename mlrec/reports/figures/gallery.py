"""Figure that shows samples with their predicted and true labels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.predictions import Predictions, probabilities_of
from mlrec.utils.files import write_bytes

COLUMNS = 4
LINE = 0.075  # height of a line of text, as a fraction of the height of an image
# Color-blind readers can distinguish blue, vermilion and grey; the signs mean the same without color.
RIGHT, WRONG, MISSED = ("✓", "#0072B2"), ("✗", "#D55E00"), ("○", "#555555")


@dataclass(frozen=True)
class PredictedLabel:
    """Label that is predicted or true for a sample, with its probability.

    Attributes:
        label: Name of the label.
        probability: Predicted probability.
        predicted: Whether the probability is at least 0.5.
        true: Whether the sample is positive for this label.
    """

    label: str
    probability: float
    predicted: bool
    true: bool

    @property
    def mark(self) -> tuple[str, str]:
        """Symbol and color used to draw the label."""
        if not self.predicted:
            return MISSED
        if self.true:
            return RIGHT
        return WRONG


def labels_to_show(predictions: Predictions, sample: int) -> list[PredictedLabel]:
    """Return the predicted (p >= 0.5) and true labels of a sample, in descending order of probability.

    Args:
        predictions: Predictions. If they contain no targets, only predicted labels are returned.
        sample: Row index of the sample.
    """
    logits = predictions.logits[sample].astype(np.float64)
    truth = np.zeros(len(logits))
    if predictions.targets is not None:
        truth = predictions.targets[sample]
    probabilities = probabilities_of(logits)
    labels = []
    for k, name in enumerate(predictions.labels):
        label = PredictedLabel(name, float(probabilities[k]), bool(logits[k] >= 0), bool(truth[k] == 1))
        if label.predicted or label.true:
            labels.append(label)
    return sorted(labels, key=lambda label: -label.probability)


def draw_gallery(
    images: Sequence[NDArray[np.uint8]], labels: Sequence[Sequence[PredictedLabel]], path: Path, *, title: str
) -> None:
    """Draw images with the labels below each image, and write the figure to a file.

    Args:
        images: Images as (H, W, 3) arrays.
        labels: Labels of each image.
        path: PNG file to write.
        title: Title of the figure.
    """
    from matplotlib.figure import Figure

    rows = -(-len(images) // COLUMNS)
    most = max((len(shown) for shown in labels), default=0)
    figure = Figure(figsize=(3 * COLUMNS, (3 + 3 * LINE * (most + 1)) * rows + 0.6), layout="constrained")
    legend = f"{RIGHT[0]} true positive   {WRONG[0]} false positive   {MISSED[0]} false negative"
    figure.suptitle(f"{title}\n{legend}")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel in panels:
        panel.axis("off")
    for panel, image, shown in zip(panels, images, labels, strict=False):
        panel.imshow(_square(image))
        for line, label in enumerate(shown):
            sign, color = label.mark
            text = f"{sign} {label.label} {label.probability:.2f}"
            panel.text(0, -0.02 - LINE * line, text, color=color, transform=panel.transAxes, va="top", parse_math=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=90)
    write_bytes(path, picture.getvalue())


def _square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pad an image with white to a square; the image is at the bottom, directly above its labels."""
    height, width = image.shape[:2]
    side = max(height, width)
    canvas = np.full((side, side, 3), 255, dtype=np.uint8)
    left = (side - width) // 2
    canvas[side - height :, left : left + width] = image
    return canvas
