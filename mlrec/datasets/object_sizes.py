"""Size of an object: the share of its image that it covers. All ranges of sizes that are reported are defined here."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SizeRange(NamedTuple):
    """A named range of sizes, `low` included, `high` excluded."""

    name: str
    low: float
    high: float

    def contains(self, sizes: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each size is in the range; NaN is in none.

        Example:
            >>> SizeRange("small", 0.0, 0.02).contains(np.array([0.0, 0.02, np.nan])).tolist()
            [True, False, False]
        """
        return np.asarray((sizes >= self.low) & (sizes < self.high))


# AP by size: shares of the image area, with enough positives of a VOC or COCO test set in each range.
AP_SIZES = (
    SizeRange("< 1 % of the image", 0.0, 0.01),
    SizeRange("1-5 %", 0.01, 0.05),
    SizeRange("5-20 %", 0.05, 0.2),
    SizeRange("≥ 20 %", 0.2, math.inf),
)
# Heat maps: shares of the image area. A cell of a 7 x 7 map covers 2 %, so small objects are smaller than a cell.
MAP_SIZES = (
    SizeRange("small, < 2 % of the image", 0.0, 0.02),
    SizeRange("medium, 2-10 %", 0.02, 0.1),
    SizeRange("large, > 10 %", 0.1, math.inf),
)
# Statistics of a dataset: COCO's own ranges, the only ones in square pixels, to be compared with those of COCO.
COCO_SIZES = (
    SizeRange("small", 0.0, 32.0**2),
    SizeRange("medium", 32.0**2, 96.0**2),
    SizeRange("large", 96.0**2, math.inf),
)


def relative_sizes(areas: NDArray[np.float64], image: tuple[int, int]) -> NDArray[np.float64]:
    """Sizes of objects as shares of the area of their image.

    Args:
        areas: (K,) square pixels.
        image: Width and height of the image in pixels.

    Example:
        >>> relative_sizes(np.array([30.0, 50.0]), (10, 10)).tolist()
        [0.3, 0.5]
    """
    return np.asarray(areas / (image[0] * image[1]))


def count_sizes(sizes: NDArray[np.floating], ranges: tuple[SizeRange, ...]) -> dict[str, int]:
    """Number of objects in each range, by its name.

    Example:
        >>> count_sizes(np.array([100.0, 1024.0, 1e6]), COCO_SIZES)
        {'small': 1, 'medium': 1, 'large': 1}
    """
    return {group.name: int(group.contains(sizes).sum()) for group in ranges}
