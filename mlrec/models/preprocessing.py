"""`Preprocessing`: size and normalization of the input images of a model; stored with the weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

Channels = tuple[float, float, float]

# Pixel mean and std in [0, 1]. The paper's code uses "unit" on VOC and COCO, and "half" on WIDER.
NORMALIZATIONS: dict[str, tuple[Channels, Channels]] = {
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of images for a model: resizing and normalization.

    Images are resized to a square and scaled to [0, 1]; then `mean` is subtracted and the result is divided by `std`,
    per RGB channel.

    Attributes:
        size: Side length of the square input in pixels.
        mean, std: Mean and standard deviation of each RGB channel, for pixels in [0, 1].
        interpolation: "bilinear" or "bicubic", with antialiasing.
    """

    size: int
    mean: Channels = NORMALIZATIONS["imagenet"][0]
    std: Channels = NORMALIZATIONS["imagenet"][1]
    interpolation: str = "bilinear"

    def normalized(self, normalization: str) -> Preprocessing:
        """Return a copy with the mean and std of a normalization: "unit", "half" or "imagenet".

        With "weights", the current mean and std are used.
        """
        if normalization == "weights":
            return self
        mean, std = NORMALIZATIONS[normalization]
        return replace(self, mean=mean, std=std)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-compatible values for the metadata of a weights file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Create a `Preprocessing` from the values returned by `to_dict`."""
        red, green, blue = (float(v) for v in values["mean"])
        red_std, green_std, blue_std = (float(v) for v in values["std"])
        return cls(
            int(values["size"]), (red, green, blue), (red_std, green_std, blue_std), str(values["interpolation"])
        )
