"""Conversion of pixels to the square input of a model.

Random numbers depend only on the seed, epoch and sample. In training, images are flipped horizontally at random and
cropped with random resized crops, as in the paper; RandAugment and Cutout are optional. In evaluation, the whole image
is resized to a square without preserving the aspect ratio. Two functions apply a view: `tensors`, the default, uses
uint8 tensors; `pictures` uses PIL and version 1 of torchvision's transforms, as in the paper's code. Pixels are uint8
until they are on the device, where `normalize` converts them to floats.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from mlrec.config import Config
from mlrec.datasets.images.decode import Pixels
from mlrec.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from mlrec.training.randaugment import Operation

Decode = Literal["fast", "pil"]
_ATTEMPTS = 10  # attempts to draw a valid crop before the largest center crop is used, as in torchvision


@dataclass(frozen=True)
class View:
    """Augmentation of an image: crop, flip, RandAugment operations and Cutout.

    Attributes:
        top, left, height, width: Crop box in pixels.
        flip: Whether the crop is flipped horizontally.
        operations: RandAugment operations, in order.
        hole: Area of the resized image that Cutout fills with gray: top, left, bottom, right; None without Cutout.
    """

    top: int
    left: int
    height: int
    width: int
    flip: bool = False
    operations: tuple[Operation, ...] = ()
    hole: tuple[int, int, int, int] | None = None


def draw_view(config: Config, epoch: int, sample: int, height: int, width: int, size: int) -> View:
    """Draw the augmentation for a sample of `height` x `width` pixels in an epoch.

    The side length of the model input is `size` pixels.
    """
    rng = np.random.default_rng([config.seed, epoch, sample])
    flip = bool(rng.random() < config.hflip)
    box = (0, 0, height, width)
    if config.crop:
        box = _draw_crop(rng, config, height, width)
    operations: tuple[Operation, ...] = ()
    if config.randaugment:
        from mlrec.training.randaugment import draw_operations

        operations = draw_operations(rng, config.randaugment, config.randaugment_magnitude, size)
    return View(*box, flip, operations, _draw_hole(rng, config.cutout, size))


def tensors(pixels: Pixels, view: View | None, size: int, interpolation: str) -> Tensor:
    """Apply a view with torch's antialiased uint8 resize; if `view` is None, resize the whole image."""
    if view is not None:
        pixels = pixels[view.top : view.top + view.height, view.left : view.left + view.width].copy()
    # Add the batch dimension before permuting, because torch's fast resize requires canonical channels-last strides.
    image = torch.from_numpy(np.require(pixels, requirements=("C", "W"))).unsqueeze(0).permute(0, 3, 1, 2)
    if image.shape[-2:] != (size, size):
        image = torch.nn.functional.interpolate(image, (size, size), mode=interpolation, antialias=True)
    if view is None:
        return image[0]
    if view.flip:
        image = image.flip(-1)
    return _cut(_with_operations(image[0], view), view.hole)


def pictures(pixels: Pixels, view: View | None, size: int, interpolation: str) -> Tensor:
    """Apply a view with PIL and version 1 of torchvision's transforms, as in the paper's code."""
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as v1

    picture, how = Image.fromarray(pixels), InterpolationMode(interpolation)
    if view is None:
        return v1.pil_to_tensor(v1.resize(picture, [size, size], how))  # type: ignore[no-any-return]
    picture = v1.resized_crop(picture, view.top, view.left, view.height, view.width, [size, size], how)
    if view.flip:
        picture = v1.hflip(picture)
    return _cut(v1.pil_to_tensor(_with_operations(picture, view)), view.hole)


VIEWS: dict[Decode, Callable[[Pixels, View | None, int, str], Tensor]] = {"fast": tensors, "pil": pictures}


def normalize(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Convert uint8 images (B, 3, S, S) to float32 values (pixel / 255 - mean) / std, on the same device."""
    scale, shift = _scale_and_shift(preprocessing, images.device)
    return torch.addcmul(shift, images.to(torch.float32), scale)


def filled(rows: Tensor, size: int) -> Tensor:
    """Pad `rows` (B, ...), B ≥ 1, to `size` rows with copies of the last row."""
    missing = size - len(rows)
    if missing <= 0:
        return rows
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])


@functools.cache
def _scale_and_shift(preprocessing: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the constants for `normalize`, cached on the device.

    A copy in each step would synchronize.
    """
    mean, std = torch.tensor(preprocessing.mean).view(3, 1, 1), torch.tensor(preprocessing.std).view(3, 1, 1)
    return (1 / (255 * std)).to(device), (-mean / std).to(device)


def _draw_crop(rng: np.random.Generator, config: Config, height: int, width: int) -> tuple[int, int, int, int]:
    """Draw the box of a random resized crop (Szegedy et al. 2015): top, left, height, width."""
    for _ in range(_ATTEMPTS):
        area = height * width * rng.uniform(*config.scale)
        ratio = math.exp(rng.uniform(math.log(config.ratio[0]), math.log(config.ratio[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w = min(width, max(1, round(height * config.ratio[1])))
    h = min(height, max(1, round(width / config.ratio[0])))
    return (height - h) // 2, (width - w) // 2, h, w


def _draw_hole(rng: np.random.Generator, share: float, size: int) -> tuple[int, int, int, int] | None:
    """Draw the Cutout square (DeVries & Taylor 2017) around a random pixel, clipped to the image."""
    if share == 0:
        return None
    row, column, half = int(rng.integers(size)), int(rng.integers(size)), share * size / 2
    low = [max(0, round(centre - half)) for centre in (row, column)]
    high = [min(size, round(centre + half)) for centre in (row, column)]
    return low[0], low[1], high[0], high[1]


def _with_operations(image: Any, view: View) -> Any:
    """Apply the RandAugment operations of a view to a (3, S, S) tensor or a PIL image."""
    if not view.operations:
        return image
    from mlrec.training.randaugment import apply_operations

    return apply_operations(image, view.operations)


def _cut(image: Tensor, hole: tuple[int, int, int, int] | None) -> Tensor:
    if hole is not None:
        top, left, bottom, right = hole
        image[:, top:bottom, left:right] = 128
    return image
