"""Reader for PETA: pedestrian images with 105 attributes, stored in `PETA.mat`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.mat_file import load_mat, texts_of
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.samples import ImageFinder, clean_labels
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.files import file_in

FILE, VARIABLE = "PETA.mat", "peta"
FIRST_LABEL = 4  # columns before the attributes: the number and the origin of the image
FOLDERS = ("images", "")
SPLITS = ("train", "val", "test")
PART = "the first random partition of PETA was used"


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as PETA, otherwise None."""
    return f"it contains {FILE}" if (path / FILE).is_file() else None


def read_peta(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read the images, attributes and random partitions in `PETA.mat`.

    The file contains the attribute values of all images, the attribute names, and random partitions into splits.

    The first image is `00001.png`. Images are in `options.images`, in `images`, or anywhere below `path`. All
    attributes are labels; the 35 attributes of the usual benchmark can be chosen with `--labels`. Only the first
    partition is used.

    Raises:
        DataError: The file is missing or does not have the layout of PETA.
        MlrecError: scipy is not installed.
    """
    file = file_in(path.absolute(), FILE)
    root = (options.images or file.parent).absolute()
    table, names, division = _parts(load_mat(file), file)
    labels = clean_labels(names, f"{file}: attributes", findings)
    targets = table[:, FIRST_LABEL:]
    if targets.shape[1] != len(labels) or not np.isin(targets, (0, 1)).all():
        raise DataError(
            f"{file}: expected a column of 0s and 1s for each of the {len(labels)} attributes; download the file again"
        )
    finder = ImageFinder(root, findings)
    manifests = []
    for split in SPLITS:
        rows = division[split].astype(np.int64) - 1  # MATLAB indices start at 1
        if rows.size and not (rows.min() >= 0 and rows.max() < len(table)):
            raise DataError(
                f"{file}: split '{split}' contains an image number outside the range 1 to {len(table):,}; "
                "download the file again"
            )
        images = tuple(finder.find(f"{row + 1:05}.png", f"{file}: image {row + 1}", FOLDERS) for row in rows.tolist())
        manifests.append(Manifest("peta", split, root, labels, images, targets[rows].astype(np.int8)))
    return Reading("peta", manifests, {"kind": "peta", "path": str(file)}, footnotes=[PART])


def _parts(
    content: dict[str, Any], file: Path
) -> tuple[np.ndarray[Any, Any], list[str], dict[str, np.ndarray[Any, Any]]]:
    """Return the table, the attribute names, and the 1-based positions of the images in each split."""
    try:
        fields = content[VARIABLE][0][0]
        table = np.asarray(fields[0])
        names = texts_of(fields[1].ravel(), f"{file}: attributes")
        division = fields[3].ravel()[0]
        while division.dtype.names is None:
            division = division.ravel()[0]
        fields = division.ravel()[0]  # train, val and test, by position
        places = {split: np.asarray(fields[k]).ravel() for k, split in enumerate(SPLITS)}
    except DataError:
        raise
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"{file}: the file does not have the layout of the PETA annotations ({error!r}); download it again"
        ) from error
    if table.ndim != 2 or table.dtype.kind not in "uif" or any(p.dtype.kind not in "uif" for p in places.values()):
        raise DataError(
            f"{file}: the file does not have the layout of the PETA annotations (no table of numbers); "
            "download it again"
        )
    return table, names, places
