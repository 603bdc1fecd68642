"""What a model says of some samples, beside what is true, as one picture."""

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
LINE = 0.075  # height of a line of text, as a share of a picture's
# Blue, vermilion and grey are told apart by colour-blind readers, too; the signs say the same without colour.
RIGHT, WRONG, MISSED = ("✓", "#0072B2"), ("✗", "#D55E00"), ("○", "#555555")


@dataclass(frozen=True)
class Shown:
    """One label of one sample: its name, its probability, and whether it was said and is true."""

    label: str
    probability: float
    said: bool
    true: bool


def said_and_true(predictions: Predictions, sample: int) -> list[Shown]:
    """The labels of a sample that the model says (p >= 0.5) or that are true, the most probable first."""
    logits = predictions.logits[sample].astype(np.float64)
    truth = np.zeros(len(logits)) if predictions.targets is None else predictions.targets[sample]
    shown = [
        Shown(label, float(probabilities_of(logit)), bool(logit >= 0), bool(target == 1))
        for label, logit, target in zip(predictions.labels, logits, truth, strict=True)
        if logit >= 0 or target == 1
    ]
    return sorted(shown, key=lambda one: -one.probability)


def draw_gallery(
    images: Sequence[NDArray[np.uint8]], labels: Sequence[Sequence[Shown]], path: Path, *, title: str
) -> None:
    """Draw images, (H, W, 3) each, with their labels below, into the PNG file `path`."""
    from matplotlib.figure import Figure

    rows = -(-len(images) // COLUMNS)
    most = max((len(shown) for shown in labels), default=0)
    figure = Figure(figsize=(3 * COLUMNS, (3 + 3 * LINE * (most + 1)) * rows + 0.6), layout="constrained")
    figure.suptitle(f"{title}\n{RIGHT[0]} said and true   {WRONG[0]} said, not true   {MISSED[0]} true, not said")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel in panels:
        panel.axis("off")
    for panel, image, shown in zip(panels, images, labels, strict=False):
        panel.imshow(_square(image))
        for line, one in enumerate(shown):
            sign, colour = MISSED if not one.said else RIGHT if one.true else WRONG
            text = f"{sign} {one.label} {one.probability:.2f}"
            panel.text(
                0, -0.02 - LINE * line, text, color=colour, transform=panel.transAxes, va="top", parse_math=False
            )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=90)
    write_bytes(path, picture.getvalue())


def _square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image on a white square, at its foot, where its labels begin."""
    height, width = image.shape[:2]
    side = max(height, width)
    canvas = np.full((side, side, 3), 255, dtype=np.uint8)
    left = (side - width) // 2
    canvas[side - height :, left : left + width] = image
    return canvas
