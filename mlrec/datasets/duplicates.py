"""The same photograph twice: byte for byte, or as it looks after re-encoding and resizing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets import images

SIDE = 32  # pixels of a thumbnail's side
ALIKE = 0.97  # correlation of two thumbnails from which on they show the same photograph
PLAIN = 4.0  # grey levels: a thumbnail that varies less looks like any other
BLOCK = 2048


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of an image file: the SHA-256 of its content, and a (32, 32) uint8 grey thumbnail of it, upright."""

    digest: str
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
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

    data = images.read_image_file(path)
    stored = images.decode_bytes(data, path)
    upright = images.upright(stored.pixels, stored.orientation)
    small = Image.fromarray(upright).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return Fingerprint(hashlib.sha256(data).hexdigest(), np.asarray(small))


def pairs(fingerprints: Sequence[Fingerprint], alike: float = ALIKE) -> list[Pair]:
    """All pairs of images that are the same, the first position smaller than the second, in order.

    Thumbnails are compared by their correlation, which brightness and contrast do not change. A nearly plain one is
    compared by content alone.
    """
    found = [
        Pair(i, j, fingerprints[i].digest == fingerprints[j].digest, correlation)
        for i, j, correlation in _alike([print_.thumbnail for print_ in fingerprints], alike)
    ]
    seen = {(pair.first, pair.second) for pair in found}
    first: dict[str, int] = {}
    for position, print_ in enumerate(fingerprints):
        earlier = first.setdefault(print_.digest, position)
        if earlier != position and (earlier, position) not in seen:
            found.append(Pair(earlier, position, True, 1.0))
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _alike(thumbnails: Sequence[NDArray[np.uint8]], alike: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of thumbnails with a correlation of at least `alike`, found block by block."""
    vectors = np.array(thumbnails, dtype=np.float32).reshape(len(thumbnails), SIDE * SIDE)
    vectors -= vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    plain = length < PLAIN * SIDE
    vectors = np.where(plain, 0, vectors / np.where(plain, 1, length))
    for top in range(0, len(vectors), BLOCK):
        for left in range(top, len(vectors), BLOCK):
            correlation = vectors[top : top + BLOCK] @ vectors[left : left + BLOCK].T
            for i, j in np.argwhere(correlation >= alike).tolist():
                if top + i < left + j:
                    yield top + i, left + j, float(correlation[i, j])
