"""Boxes from third-party annotations, clipped to their images.

A box consists of x, y, width and height in pixels of the stored image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def inside(box: tuple[float, ...], width: int, height: int) -> tuple[float, float, float, float]:
    """Clip one box to its image; a box outside the image gets width or height 0.

    Example:
        >>> inside((-5, 10, 20, 100), 64, 48)
        (0.0, 10.0, 15.0, 38.0)
    """
    x, y, w, h = clip_boxes(np.array([box], dtype=np.float64), [(width, height)])[0].tolist()
    return x, y, w, h


def clip_boxes(boxes: NDArray[np.float64], sizes: Sequence[tuple[int, int] | None]) -> NDArray[np.float64]:
    """Clip boxes to their images, and make negative widths and heights positive.

    A box outside the image gets width or height 0. A negative width or height means that the corners are in reverse
    order.

    Args:
        boxes: (N, 4) array of boxes as x, y, width, height in pixels.
        sizes: Width and height of the stored image for each of the N boxes. If an entry is None, the box is clipped
            only at 0.

    Returns:
        (N, 4) array of clipped boxes as x, y, width, height in pixels.
    """
    limits = np.array([size or (np.inf, np.inf) for size in sizes], dtype=np.float64).reshape(-1, 2)
    with np.errstate(over="ignore"):  # an overflow to infinity is clipped like any other coordinate
        ends = boxes[:, :2] + boxes[:, 2:]
    near, far = np.minimum(boxes[:, :2], ends), np.maximum(boxes[:, :2], ends)
    near, far = np.clip(near, 0, limits), np.clip(far, 0, limits)
    return np.concatenate([near, far - near], axis=1)


def non_empty(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return an (N,) bool array: True if the box is at least one pixel wide and one pixel high.

    Box sizes are rounded as in `crop` before they are compared.
    """
    near, far = np.rint(boxes[:, :2]), np.rint(boxes[:, :2] + boxes[:, 2:])
    return (far[:, 0] > near[:, 0]) & (far[:, 1] > near[:, 1])
