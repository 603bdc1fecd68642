"""Diverging color map for signed values: blue below zero, light gray at zero, red above zero.

In CIELAB, each half of the color map is a straight line from gray to the end color. Both end colors have the same
lightness and chroma. Equal differences in value therefore look like equal differences in color, and x and -x look
equally strong.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

ENTRIES = 255  # odd, so that zero has an entry of its own, the middle one
ZERO = ENTRIES // 2
GREY, STRONG, CHROMA = 92.0, 46.0, 66.0  # lightness L* at zero and at both ends; chroma at both ends
BLUE, RED = 289.0, 20.0  # hues in degrees; also distinct for color-blind readers
WHITE = np.array([0.95047, 1.0, 1.08883])  # XYZ of D65
XYZ_TO_RGB = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)


@functools.cache
def color_map() -> NDArray[np.uint8]:
    """Return a (255, 3) array of sRGB colors for values from -1 to 1; entry 127 is the color for 0.

    Example:
        >>> color_map()[[0, 127, 254]].tolist()
        [[48, 103, 215], [232, 232, 232], [204, 45, 75]]
    """
    value = np.linspace(-1, 1, ENTRIES)
    lightness = GREY + (STRONG - GREY) * np.abs(value)
    hue = np.deg2rad(np.where(value < 0, BLUE, RED))
    chroma = CHROMA * np.abs(value)
    return _srgb(np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1))


def _srgb(lab: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Convert an array (..., 3) of CIELAB colors to sRGB, as defined in CIE 15 and IEC 61966-2-1."""
    y = (lab[..., 0] + 16) / 116
    root = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = WHITE * np.where(root > 6 / 29, root**3, 3 * (6 / 29) ** 2 * (root - 4 / 29))
    linear = np.clip(xyz @ XYZ_TO_RGB.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colors: NDArray[np.uint8] = np.rint(255 * encoded).astype(np.uint8)
    return colors
