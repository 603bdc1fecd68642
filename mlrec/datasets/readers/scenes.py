"""Synthetic scenes: textured shapes of twelve classes on a cluttered background.

A scene is determined completely by the state of a random number generator. A class is a combination of a texture and a
shape ("striped star"). Colors, sizes, positions and angles do not depend on the class. Every texture and every shape
belongs to multiple classes, so only the combination determines the label. Scenes also contain unlabeled distractors:
textured blobs and shapes without a texture.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TEXTURES = ("striped", "dotted", "checked")
SHAPES = ("disc", "square", "triangle", "star")
CLASSES = tuple(f"{texture} {shape}" for texture in TEXTURES for shape in SHAPES)

SIDES = (208, 321)  # pixels; the upper bound is excluded
SIZES = (0.14, 0.65)  # object diameter as a fraction of the shorter image side
COUNTS = (0.22, 0.26, 0.22, 0.17, 0.13)  # probability of one to five objects
COMPANIONS, COMPANION_WEIGHT = (1, 5), 15.0  # offsets of the classes that co-occur with a class
AGAIN = 0.2  # probability that the next object repeats a class in the scene
LEAST_VISIBLE = 0.5  # fraction of an object that later objects must leave visible
LEAST_PIXELS = 60

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Object:
    """Object in a scene: index in `CLASSES`, (H, W) mask of visible pixels, and full area in pixels."""

    label: int
    mask: Mask
    area: int


@dataclass(frozen=True, eq=False)
class Patch:
    """Shape on the canvas, with its position and opacity.

    `left` and `top` are the upper left corner of the bounding box, and `alpha` is the (h, w) opacity inside this box.
    """

    left: int
    top: int
    alpha: Floats

    @property
    def window(self) -> tuple[slice, slice]:
        """Return the rows and columns of the canvas that the patch covers."""
        height, width = self.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True, eq=False)
class Scene:
    """Synthetic image of shape (H, W, 3) and type uint8, with one to five objects."""

    image: NDArray[np.uint8]
    objects: tuple[Object, ...]


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw one scene; the same state of the random number generator produces the same scene."""
    width, height = (int(side) for side in rng.integers(*SIDES, size=2))
    canvas = _background(rng, width, height)
    for _ in range(int(rng.integers(2, 6))):
        _paint(canvas, *_distractor(rng, width, height))
    objects: list[Object] = []
    for label in _choose_labels(rng):
        for _ in range(10):  # positions tried; if all of them cover too much, the scene has one fewer object
            patch = _shape(rng, SHAPES[label % len(SHAPES)], width, height)
            placed = _place(objects, label, patch, (height, width))
            if placed is not None:
                objects = placed
                _paint(canvas, patch, _texture(rng, TEXTURES[label // len(SHAPES)], patch))
                break
    noisy = canvas + 6 * rng.standard_normal(canvas.shape, dtype=np.float32)
    return Scene(np.clip(noisy, 0, 255).astype(np.uint8), tuple(objects))


def _choose_labels(rng: np.random.Generator) -> list[int]:
    """Draw one to five classes, with different frequencies, co-occurrence, and repeated objects."""
    classes = np.arange(len(CLASSES))
    frequency = 1 / (1 + classes) ** 0.5
    labels = [int(rng.choice(classes, p=frequency / frequency.sum()))]
    for _ in range(int(rng.choice(len(COUNTS), p=COUNTS))):
        if rng.random() < AGAIN:
            labels.append(int(rng.choice(labels)))
            continue
        company = np.isin((classes - labels[0]) % len(CLASSES), COMPANIONS)
        weights = frequency * np.where(company, COMPANION_WEIGHT, 1.0)
        labels.append(int(rng.choice(classes, p=weights / weights.sum())))
    return labels


def _place(objects: list[Object], label: int, patch: Patch, size: tuple[int, int]) -> list[Object] | None:
    """Return the objects with one more object in front.

    The result is None if too little of an object would be visible.
    """
    seen = np.zeros(size, dtype=np.bool_)
    seen[patch.window] = patch.alpha >= 0.5
    below = [Object(o.label, o.mask & ~seen, o.area) for o in objects]
    hidden = any(o.mask.sum() < max(LEAST_VISIBLE * o.area, LEAST_PIXELS) for o in below)
    if hidden or seen.sum() < LEAST_PIXELS:
        return None
    return [*below, Object(label, seen, int(seen.sum()))]


def _shape(rng: np.random.Generator, shape: str, width: int, height: int) -> Patch:
    """Return a shape of random size, position, angle and aspect ratio, completely inside the image."""
    low, high = np.log(SIZES)
    radius = math.exp(rng.uniform(low, high)) * min(width, height) / 2
    centre = rng.uniform(radius, [width - radius, height - radius])
    corners = _corners(shape) * [1.0, rng.uniform(0.8, 1.0)]
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return _filled(corners @ turn.T * radius + centre, width, height)


def _corners(shape: str) -> NDArray[np.float64]:
    """Return the corners of a shape in the unit circle."""
    count = {"disc": 40, "square": 4, "triangle": 3, "star": 10}[shape]
    angles = np.arange(count) * 2 * math.pi / count
    radii = np.ones(count)
    if shape == "star":  # every other corner points inward
        radii[1::2] = 0.45
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _filled(corners: NDArray[np.float64], width: int, height: int) -> Patch:
    """Return a polygon clipped to the image, drawn at twice the size and downscaled for antialiasing."""
    from PIL import Image, ImageDraw

    left, top = (int(v) for v in np.clip(np.floor(corners.min(axis=0)), 0, [width - 1, height - 1]))
    right, bottom = (int(v) for v in np.clip(np.ceil(corners.max(axis=0)), [left + 1, top + 1], [width, height]))
    mask = Image.new("L", (2 * (right - left), 2 * (bottom - top)))
    ImageDraw.Draw(mask).polygon([tuple(point) for point in (2 * (corners - [left, top])).tolist()], fill=255)
    return Patch(left, top, np.asarray(mask.reduce(2), dtype=np.float32) / np.float32(255))


def _texture(rng: np.random.Generator, kind: str, patch: Patch) -> Floats:
    """Return an (h, w, 3) pattern of two colors at a random angle and period, to fill a patch."""
    first, second = _two_colors(rng)
    angle, period = rng.uniform(0, 2 * math.pi), rng.uniform(7, 16)
    height, width = patch.alpha.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u = (x * math.cos(angle) + y * math.sin(angle)) / period
    v = (y * math.cos(angle) - x * math.sin(angle)) / period
    if kind == "striped":
        chosen = np.floor(u) % 2 == 0
    elif kind == "checked":
        chosen = (np.floor(u) + np.floor(v)) % 2 == 0
    else:
        chosen = ((u / 1.5) % 1 - 0.5) ** 2 + ((v / 1.5) % 1 - 0.5) ** 2 < 0.3**2
    return np.where(chosen[..., None], first, second).astype(np.float32)


def _two_colors(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return a dark and a light color of any hue, in either order."""
    pair = [
        np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(*value)), dtype=np.float32) * 255
        for value in ((0.15, 0.5), (0.7, 1.0))
    ]
    first = int(rng.integers(2))
    return pair[first], pair[1 - first]


def _background(rng: np.random.Generator, width: int, height: int) -> Floats:
    """Return a background of soft color clouds crossed by lines."""
    from PIL import Image, ImageDraw

    clouds = Image.fromarray(rng.integers(40, 216, size=(5, 5, 3), dtype=np.uint8))
    canvas = clouds.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(4, 13))):
        ends = rng.uniform(0, 1, size=(2, 2)) * [width, height]
        color = tuple(rng.integers(0, 256, size=3).tolist())
        draw.line([tuple(end) for end in ends.tolist()], fill=color, width=int(rng.integers(1, 5)))
    return np.array(canvas, dtype=np.float32)


def _distractor(rng: np.random.Generator, width: int, height: int) -> tuple[Patch, Floats]:
    """Draw a distractor: a shape in one color, or a texture in an irregular outline."""
    if rng.random() < 0.5:
        return _shape(rng, str(rng.choice(SHAPES)), width, height), _two_colors(rng)[0]
    radius = rng.uniform(*SIZES) * min(width, height) / 3
    angles = np.arange(9) * 2 * math.pi / 9
    ring = rng.uniform(0.3, 1.0, size=9)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    patch = _filled(ring * radius + rng.uniform(0, 1, size=2) * [width, height], width, height)
    return patch, _texture(rng, str(rng.choice(TEXTURES)), patch)


def _paint(canvas: Floats, patch: Patch, fill: Floats) -> None:
    """Blend `fill`, (h, w, 3) or one color, into `canvas` with the opacity of the patch."""
    cover = patch.alpha[..., None]
    canvas[patch.window] += cover * (fill - canvas[patch.window])
