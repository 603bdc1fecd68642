"""Object sizes as fractions of the image area, and all size ranges that are used in reports."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SizeRange(NamedTuple):
    """Named range of object sizes, including `low` and excluding `high`."""

    name: str
    low: float
    high: float

    def contains(self, sizes: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return whether each size is in the range; NaN is not in any range.

        Example:
            >>> SizeRange("small", 0.0, 0.02).contains(np.array([0.0, 0.02, np.nan])).tolist()
            [True, False, False]
        """
        return np.asarray((sizes >= self.low) & (sizes < self.high))


# AP by size: fractions of the image area. Each range has enough positives in a VOC or COCO test set.
AP_SIZES = (
    SizeRange("< 1% of the image", 0.0, 0.01),
    SizeRange("1-5%", 0.01, 0.05),
    SizeRange("5-20%", 0.05, 0.2),
    SizeRange("≥ 20%", 0.2, math.inf),
)
# Heat maps: fractions of the image area. A cell of a 7 x 7 map covers 2%, so small objects are smaller than a cell.
MAP_SIZES = (
    SizeRange("small, < 2% of the image", 0.0, 0.02),
    SizeRange("medium, 2-10%", 0.02, 0.1),
    SizeRange("large, > 10%", 0.1, math.inf),
)
# Dataset statistics: the COCO ranges, in square pixels unlike the other ranges, for comparison with COCO.
COCO_SIZES = (
    SizeRange("small", 0.0, 32.0**2),
    SizeRange("medium", 32.0**2, 96.0**2),
    SizeRange("large", 96.0**2, math.inf),
)


def relative_sizes(areas: NDArray[np.float64], image: tuple[int, int]) -> NDArray[np.float64]:
    """Return object sizes as fractions of the image area.

    Args:
        areas: (K,) array of object areas in square pixels.
        image: Width and height of the image in pixels.

    Example:
        >>> relative_sizes(np.array([30.0, 50.0]), (10, 10)).tolist()
        [0.3, 0.5]
    """
    return np.asarray(areas / (image[0] * image[1]))


def count_sizes(sizes: NDArray[np.floating], ranges: tuple[SizeRange, ...]) -> dict[str, int]:
    """Return the number of objects in each range, as a mapping from range names to counts.

    Example:
        >>> count_sizes(np.array([100.0, 1024.0, 1e6]), COCO_SIZES)
        {'small': 1, 'medium': 1, 'large': 1}
    """
    return {group.name: int(group.contains(sizes).sum()) for group in ranges}
