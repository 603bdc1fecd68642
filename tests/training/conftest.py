"""A small dataset of pictures on disk, and a small model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlrec.datasets.manifest import Manifest


def write_picture(path: Path, seed: int, size: tuple[int, int] = (60, 44)) -> None:
    """A smooth picture, so that JPEG and resizing change it little."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, quality=95)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """13 pictures, three labels, a third of the cells of each value."""
    root = tmp_path_factory.mktemp("pictures")
    names = tuple(f"{k:02}.jpg" for k in range(13))
    for k, name in enumerate(names):
        write_picture(root / name, k)
    targets = np.random.default_rng(0).integers(-1, 2, (13, 3)).astype(np.int8)
    return Manifest("pictures", "train", root, ("a", "b", "c"), names, targets)
