"""How far apart `mlrec duplicates` sees different photographs, and copies of one.

    python benchmarks/duplicates.py FOLDER... [--copies 100]

Prints how many pairs of the photographs below the folders would be taken for the same one, the correlations of the most
alike pairs, and for each way of copying a seeded sample of them the least correlation of a copy with its original.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from mlrec.datasets.analysis.near_duplicates import ALIKE, fingerprint, pairs

WAYS = {
    "JPEG quality 30": lambda image: (image, 30),
    "JPEG quality 10": lambda image: (image, 10),
    "half the size, quality 75": lambda image: (image.resize((image.width // 2, image.height // 2)), 75),
    "a quarter of the size, quality 50": lambda image: (image.resize((image.width // 4, image.height // 4)), 50),
    "twice the size, quality 80": lambda image: (image.resize((image.width * 2, image.height * 2)), 80),
    "grey": lambda image: (image.convert("L"), 80),
    "squeezed to 224 x 224": lambda image: (image.resize((224, 224)), 90),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--copies", type=int, default=100)
    asked = parser.parse_args()
    files = [file for folder in asked.folders for file in sorted(folder.rglob("*.jpg"))]
    prints = [fingerprint(file) for file in files]
    directions = np.array([direction(found) for found in prints])
    among = (directions @ directions.T)[np.triu_indices(len(files), 1)]
    print(
        f"{len(files):,} photographs, {among.size:,} pairs; taken for the same: {len(pairs(prints))} (from {ALIKE} on)"
    )
    print("most alike:", ", ".join(f"{value:.4f}" for value in np.sort(among)[:-4:-1]))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for name, way in WAYS.items():
            chosen = rng.permutation(len(files))[: asked.copies]
            alike = [copied(files[k], way, Path(folder) / "copy.jpg") @ directions[k] for k in chosen]
            found = sum(value >= ALIKE for value in alike)
            print(f"{name:36s} least {min(alike):.4f}, median {np.median(alike):.4f}, found {found} of {len(alike)}")


def copied(file: Path, way, path: Path):
    image, quality = way(Image.open(file).convert("RGB"))
    image.save(path, quality=quality)
    return direction(fingerprint(path))


def direction(found):
    vector = found.thumbnail.astype(np.float64).ravel()
    vector -= vector.mean()
    return vector / np.linalg.norm(vector)


if __name__ == "__main__":
    main()
