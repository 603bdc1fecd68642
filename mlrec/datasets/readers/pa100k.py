"""Reader for PA-100K: pedestrian images with 26 attributes, stored in `annotation.mat`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.mat_file import load_mat, texts_of
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.samples import ImageFinder, clean_labels
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.files import file_in

FILE = "annotation.mat"
SPLITS = ("train", "val", "test")
FOLDERS = ("release_data/release_data", "release_data", "data", "images", "")  # usual image folders


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as PA-100K, otherwise None."""
    return f"it contains {FILE}, like PA-100K" if (path / FILE).is_file() else None


def read_pa100k(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read the images and attributes in `annotation.mat`.

    The file contains the variable `attributes` and, for each split (train, val and test), the variables
    `<split>_images_name` and `<split>_label`.

    Images are in `options.images`, in `release_data/release_data`, or anywhere below `path`.

    Raises:
        DataError: The file is missing or is not the PA-100K annotation file.
        MlrecError: scipy is not installed.
    """
    file = file_in(path.absolute(), FILE)
    root = (options.images or file.parent).absolute()
    content = load_mat(file)
    for key in ("attributes", *(f"{split}_{part}" for split in SPLITS for part in ("images_name", "label"))):
        if key not in content:
            raise DataError(f"{file}: the file has no variable '{key}'; specify the PA-100K annotation file")
    labels = clean_labels(texts_of(content["attributes"], f"{file}: attributes"), f"{file}: attributes", findings)
    finder = ImageFinder(root, findings)
    manifests = []
    for split in SPLITS:
        where = f"{file}: {split}_images_name"
        names = texts_of(content[f"{split}_images_name"], where)
        targets = np.asarray(content[f"{split}_label"])
        if targets.shape != (len(names), len(labels)) or not np.isin(targets, (0, 1)).all():
            shape = f"({len(names)}, {len(labels)})"
            raise DataError(
                f"{file}: {split}_label is not an array of 0s and 1s with shape {shape}; download the file again"
            )
        images = tuple(finder.find(name, where, FOLDERS) for name in names)
        manifests.append(Manifest("pa100k", split, root, labels, images, targets.astype(np.int8)))
    return Reading("pa100k", manifests, {"kind": "pa100k", "path": str(file)})
