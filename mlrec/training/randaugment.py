"""RandAugment (Cubuk et al. 2020) as in torchvision, with a separate random stream for each sample.

The same operations produce the same pixels as in `torchvision.transforms.v2.RandAugment`. There are 14 operations and
31 magnitudes, interpolation is nearest-neighbor, and the fill color is black.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

BINS = 31  # magnitudes 0 to 30
# Values at the largest magnitude. Signed operations are applied in a random direction.
_SIGNED = {
    "ShearX": 0.3,
    "ShearY": 0.3,
    "TranslateX": 150 / 331,
    "TranslateY": 150 / 331,
    "Rotate": 30.0,
    "Brightness": 0.9,
    "Color": 0.9,
    "Contrast": 0.9,
    "Sharpness": 0.9,
}
OPERATIONS = ("Identity", *_SIGNED, "Posterize", "Solarize", "AutoContrast", "Equalize")

Operation = tuple[str, float]


def draw_operations(rng: np.random.Generator, count: int, magnitude: int, size: int) -> tuple[Operation, ...]:
    """Draw RandAugment operations uniformly, with replacement.

    Args:
        rng: Random stream of the sample.
        count: Number of operations.
        magnitude: Magnitude of all operations, 0 to 30.
        size: Side length of the square image in pixels; translations are a fraction of this length.

    Returns:
        Pairs of an operation name and a value. Depending on the operation, the value is an angle in degrees, a
        translation in pixels, a number of bits, a factor minus 1, or a threshold.
    """
    operations = []
    for _ in range(count):
        name = OPERATIONS[rng.integers(len(OPERATIONS))]
        negative = rng.random() < 0.5
        value = operation_value(name, magnitude, size)
        operations.append((name, -value if negative and name in _SIGNED else value))
    return tuple(operations)


def operation_value(name: str, magnitude: int, size: int) -> float:
    """Return the value of an operation at `magnitude`, in float32 as in torchvision.

    For operations that do not depend on the magnitude, the value is 0.
    """
    if name == "Posterize":
        return float(8 - round(magnitude * 4 / (BINS - 1)))
    if name == "Solarize":
        return float(torch.linspace(1.0, 0.0, BINS)[magnitude])
    if name not in _SIGNED:
        return 0.0
    largest = _SIGNED[name] * (size if name.startswith("Translate") else 1)
    return float(torch.linspace(0.0, largest, BINS)[magnitude])


def apply_operations(image: Any, operations: tuple[Operation, ...]) -> Any:
    """Apply operations in order to a (3, H, W) uint8 tensor or a PIL image; uncovered pixels are black."""
    for name, value in operations:
        image = _apply(image, name, value)
    return image


def _apply(image: Any, name: str, value: float) -> Any:
    from torchvision.transforms.v2 import functional as v2

    if name in ("ShearX", "ShearY"):
        degrees = math.degrees(math.atan(value))
        shear = [0.0, degrees]
        if name == "ShearX":
            shear = [degrees, 0.0]
        return v2.affine(image, 0.0, [0, 0], 1.0, shear, center=[0, 0])
    if name in ("TranslateX", "TranslateY"):
        offset = [int(value), 0] if name == "TranslateX" else [0, int(value)]
        return v2.affine(image, 0.0, offset, 1.0, [0.0, 0.0])
    if name == "Rotate":
        return v2.rotate(image, value)
    if name in ("Brightness", "Color", "Contrast", "Sharpness"):
        adjust = getattr(v2, f"adjust_{'saturation' if name == 'Color' else name.lower()}")
        return adjust(image, 1.0 + value)
    if name == "Posterize":
        return v2.posterize(image, int(value))
    if name == "Solarize":
        return v2.solarize(image, 255 * value)
    if name == "Identity":
        return image
    return {"AutoContrast": v2.autocontrast, "Equalize": v2.equalize}[name](image)
