"""Boxes of strangers, made usable: x, y, width, height in pixels of the stored image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def inside(box: tuple[float, ...], width: int, height: int) -> tuple[float, float, float, float]:
    """One box as far as it lies in its image; one that does not gets width or height 0."""
    x, y, w, h = clip_boxes(np.array([box], dtype=np.float64), [(width, height)])[0].tolist()
    return x, y, w, h


def clip_boxes(boxes: NDArray[np.float64], sizes: Sequence[tuple[int, int] | None]) -> NDArray[np.float64]:
    """Boxes with positive width and height, inside their image; one that has no area there gets width or height 0.

    A negative width or height means that the corners were given in the other order.

    Args:
        boxes: (N, 4) x, y, width, height.
        sizes: N widths and heights of the stored images; where None, boxes are cut at 0 only.
    """
    limits = np.array([size if size else (np.inf, np.inf) for size in sizes], dtype=np.float64).reshape(-1, 2)
    with np.errstate(over="ignore"):  # beyond all numbers is outside, too
        ends = boxes[:, :2] + boxes[:, 2:]
    near, far = np.minimum(boxes[:, :2], ends), np.maximum(boxes[:, :2], ends)
    near, far = np.clip(near, 0, limits), np.clip(far, 0, limits)
    return np.concatenate([near, far - near], axis=1)


def non_empty(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the (N, 4) boxes are at least a pixel wide and high once their corners are rounded, as a crop does."""
    near, far = np.rint(boxes[:, :2]), np.rint(boxes[:, :2] + boxes[:, 2:])
    return (far[:, 0] > near[:, 0]) & (far[:, 1] > near[:, 1])
