"""RandAugment (Cubuk et al. 2020) by torchvision's operations, drawn from the sample's own random stream.

Label-safe: the operations of the paper without translation, which would push objects out of the picture while their
labels stay; the random resized crop already moves the image.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 30
# The value at the greatest magnitude, as in torchvision; None: no magnitude. Signed operations go either way.
_SIGNED = {"rotate": 30.0, "shear_x": 0.3, "shear_y": 0.3, "brightness": 0.9, "color": 0.9, "contrast": 0.9,
           "sharpness": 0.9}  # fmt: skip
_UNSIGNED = {"posterize": 4.0, "solarize": 255.0, "autocontrast": None, "equalize": None, "identity": None}
OPERATIONS = (*_SIGNED, *_UNSIGNED)

Operation = tuple[str, float]


def draw_operations(rng: np.random.Generator, count: int, magnitude: int) -> tuple[Operation, ...]:
    """`count` operations, each drawn evenly, at `magnitude` of 30; the direction is drawn too."""
    operations = []
    for _ in range(count):
        name = OPERATIONS[rng.integers(len(OPERATIONS))]
        sign = 1 if rng.random() < 0.5 else -1
        greatest = _SIGNED[name] * sign if name in _SIGNED else _UNSIGNED[name]
        operations.append((name, (greatest or 0.0) * magnitude / BINS))
    return tuple(operations)


def apply_operations(image: Any, operations: tuple[Operation, ...]) -> Any:
    """Apply them in order to a (3, H, W) uint8 tensor or a PIL image; what a turn leaves empty is black."""
    for name, value in operations:
        image = _apply(image, name, value)
    return image


def _apply(image: Any, name: str, value: float) -> Any:
    import math

    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as v2

    if name in ("rotate", "shear_x", "shear_y"):
        shear = [math.degrees(math.atan(value)) if name == axis else 0.0 for axis in ("shear_x", "shear_y")]
        angle = value if name == "rotate" else 0.0
        return v2.affine(image, angle, [0, 0], 1.0, shear, interpolation=InterpolationMode.BILINEAR)
    if name in ("brightness", "color", "contrast", "sharpness"):
        adjust = getattr(v2, f"adjust_{'saturation' if name == 'color' else name}")
        return adjust(image, 1.0 + value)
    if name == "posterize":
        return v2.posterize(image, 8 - round(value))
    if name == "solarize":
        return v2.solarize(image, 255 - value)
    return {"autocontrast": v2.autocontrast, "equalize": v2.equalize, "identity": lambda same: same}[name](image)
