"""Search for duplicate images: identical files, and near-duplicates such as resized copies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.images import decode

SIDE = 32  # side of a thumbnail in pixels
ALIKE = 0.97  # minimum correlation between two thumbnails of the same image
COARSE = 4  # side of a coarse cell in thumbnail pixels
SLACK = 0.03  # allowed difference: coarse thumbnails usually correlate more than fine ones, but may correlate less
PLAIN = 2.0  # standard deviation in grey levels; an image with less variation resembles any other image
BLOCK = 2048  # thumbnails compared at a time


@dataclass(frozen=True)
class Fingerprint:
    """Fingerprint of an image file, for finding duplicates.

    The fingerprint has two parts: the SHA-256 of the file content, and an upright grayscale thumbnail, which is a (32,
    32) uint8 array.
    """

    digest: str
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True)
class DuplicatePair:
    """Pair of duplicate images, as positions in the list of images.

    If `exact` is True, the files are identical. If `exact` is False, the images are near-duplicates, and `correlation`
    is the correlation of their thumbnails.
    """

    first: int
    second: int
    exact: bool
    correlation: float


def fingerprint(path: Path | str) -> Fingerprint:
    """Compute the fingerprint of one image file.

    Raises:
        DataError: The file is not an accepted image.
    """
    import hashlib

    from PIL import Image

    data = decode.read_image_file(path)
    stored = decode.decode_bytes(data, path)
    upright = decode.upright(stored.pixels, stored.orientation)
    small = Image.fromarray(upright).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return Fingerprint(hashlib.sha256(data).hexdigest(), np.asarray(small))


def pairs(fingerprints: Sequence[Fingerprint], alike: float = ALIKE) -> list[DuplicatePair]:
    """Find all pairs of duplicates and near-duplicates, sorted by position.

    Thumbnails are compared by their correlation, which does not depend on brightness and contrast. Nearly uniform
    images are compared only by file content, and each is paired only with the first identical file.

    Args:
        fingerprints: Fingerprints of the images.
        alike: Minimum correlation of near-duplicates, from 0 to 1.
    """
    matches = [
        DuplicatePair(i, j, fingerprints[i].digest == fingerprints[j].digest, correlation)
        for i, j, correlation in _alike([print_.thumbnail for print_ in fingerprints], alike)
    ]
    seen = {(pair.first, pair.second) for pair in matches}
    first: dict[str, int] = {}
    for position, print_ in enumerate(fingerprints):
        earlier = first.setdefault(print_.digest, position)
        if earlier != position and (earlier, position) not in seen:
            matches.append(DuplicatePair(earlier, position, True, 1.0))
    return sorted(matches, key=lambda pair: (pair.first, pair.second))


def _alike(thumbnails: Sequence[NDArray[np.uint8]], alike: float) -> Iterator[tuple[int, int, float]]:
    """Find thumbnail pairs with a correlation of at least `alike`.

    The pairs are preselected by coarse thumbnails, in blocks.
    """
    pixels = np.array(thumbnails, dtype=np.float32).reshape(len(thumbnails), SIDE, SIDE)
    cells = pixels.reshape(-1, SIDE // COARSE, COARSE, SIDE // COARSE, COARSE).mean(axis=(2, 4))
    coarse, fine = _directions(cells), _directions(pixels)
    for top in range(0, len(fine), BLOCK):
        for left in range(top, len(fine), BLOCK):
            near = coarse[top : top + BLOCK] @ coarse[left : left + BLOCK].T >= alike - SLACK
            if top == left:  # each pair once, and no image with itself
                near = np.triu(near, 1)
            first, second = np.nonzero(near)
            for i, j in zip((top + first).tolist(), (left + second).tolist(), strict=True):
                correlation = float(fine[i] @ fine[j])
                if correlation >= alike:
                    yield i, j, correlation


def _directions(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert each image to a unit vector, so that dot products are correlations.

    The vector of a nearly uniform image is zero.
    """
    vectors = images.reshape(len(images), math.prod(images.shape[1:]))
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    plain = length < PLAIN * math.sqrt(vectors.shape[1])
    directions: NDArray[np.float32] = np.where(plain, 0, vectors / np.where(plain, 1, length)).astype(np.float32)
    return directions
