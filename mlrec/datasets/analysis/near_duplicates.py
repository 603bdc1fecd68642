"""The same photograph twice: byte for byte, or as it looks after re-encoding and resizing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.images import decode

SIDE = 32  # pixels of a thumbnail's side
ALIKE = 0.97  # correlation of two thumbnails from which on they show the same photograph
COARSE = 4  # pixels of a thumbnail in a row of a coarse cell
SLACK = 0.03  # by which coarse thumbnails may be less alike than fine ones; they are more alike as a rule
PLAIN = 2.0  # grey levels: a picture that varies less looks like any other
BLOCK = 2048


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of an image file: the SHA-256 of its content, and a (32, 32) uint8 grey thumbnail of it, upright."""

    digest: str
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True)
class DuplicatePair:
    """Two images, as positions, that are the same: `exact` in content, or alike by their correlation."""

    first: int
    second: int
    exact: bool
    correlation: float


def fingerprint(path: Path | str) -> Fingerprint:
    """Read one image file.

    Raises:
        DataError: it is no image that mlrec can use.
    """
    import hashlib

    from PIL import Image

    data = decode.read_image_file(path)
    stored = decode.decode_bytes(data, path)
    upright = decode.upright(stored.pixels, stored.orientation)
    small = Image.fromarray(upright).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return Fingerprint(hashlib.sha256(data).hexdigest(), np.asarray(small))


def pairs(fingerprints: Sequence[Fingerprint], alike: float = ALIKE) -> list[DuplicatePair]:
    """All pairs of images that are the same, the first position smaller than the second, in order.

    Thumbnails are compared by their correlation, which brightness and contrast do not change. A nearly plain one is
    compared by content alone.
    """
    found = [
        DuplicatePair(i, j, fingerprints[i].digest == fingerprints[j].digest, correlation)
        for i, j, correlation in _alike([print_.thumbnail for print_ in fingerprints], alike)
    ]
    seen = {(pair.first, pair.second) for pair in found}
    first: dict[str, int] = {}
    for position, print_ in enumerate(fingerprints):
        earlier = first.setdefault(print_.digest, position)
        if earlier != position and (earlier, position) not in seen:
            found.append(DuplicatePair(earlier, position, True, 1.0))
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _alike(thumbnails: Sequence[NDArray[np.uint8]], alike: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of thumbnails with a correlation of at least `alike`: sought on coarse ones, block by block."""
    pixels = np.array(thumbnails, dtype=np.float32).reshape(len(thumbnails), SIDE, SIDE)
    cells = pixels.reshape(-1, SIDE // COARSE, COARSE, SIDE // COARSE, COARSE).mean(axis=(2, 4))
    coarse, fine = _directions(cells), _directions(pixels)
    for top in range(0, len(fine), BLOCK):
        for left in range(top, len(fine), BLOCK):
            near = coarse[top : top + BLOCK] @ coarse[left : left + BLOCK].T >= alike - SLACK
            first, second = np.nonzero(np.triu(near, 1) if top == left else near)
            for i, j in zip((top + first).tolist(), (left + second).tolist(), strict=True):
                correlation = float(fine[i] @ fine[j])
                if correlation >= alike:
                    yield i, j, correlation


def _directions(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each picture as a vector of length 1 whose products are correlations, or of zeros where it is nearly plain."""
    vectors = pictures.reshape(len(pictures), math.prod(pictures.shape[1:]))
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    plain = length < PLAIN * math.sqrt(vectors.shape[1])
    directions: NDArray[np.float32] = np.where(plain, 0, vectors / np.where(plain, 1, length)).astype(np.float32)
    return directions
