"""Export of manifests to formats of other tools: CSV as mlrec reads it, and COCO-style JSON."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import numpy as np

from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest
from mlrec.datasets.readers.columns import SPLIT_COLUMN
from mlrec.datasets.readers.csv_labels import NAME_COLUMN
from mlrec.utils.errors import DataError, counted, printable


def as_csv(manifest: Manifest) -> str:
    """Convert a manifest to a CSV `filename,<label>...` with cells 1, 0 and -1 (unknown).

    Raises:
        DataError: Samples are boxes, or a label has the name of another column.

    Example:
        >>> from pathlib import Path
        >>> print(as_csv(Manifest("pets", "val", Path("."), ("cat", "dog"), ("a.jpg",), np.array([[1, -1]]))), end="")
        filename,cat,dog
        a.jpg,1,-1
    """
    _refuse_boxes(manifest)
    for name in (NAME_COLUMN, SPLIT_COLUMN):
        if name in manifest.labels:
            raise DataError(f"{printable(manifest.name)}: the label '{name}' has the name of a column; export as coco")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([NAME_COLUMN, *manifest.labels])
    writer.writerows([image, *row] for image, row in zip(manifest.images, manifest.targets.tolist(), strict=True))
    return stream.getvalue()


def as_coco(manifest: Manifest) -> dict[str, Any]:
    """Convert a manifest to COCO: categories in label order from 1, one annotation without a box per positive label.

    Raises:
        DataError: Samples are boxes, or a label is unknown, which COCO cannot express.
    """
    _refuse_boxes(manifest)
    unknown = int(np.count_nonzero(manifest.targets == UNKNOWN))
    if unknown:
        raise DataError(
            f"{printable(manifest.name)}: split '{printable(manifest.split)}' has "
            f"{counted(unknown, 'unknown label')}, which "
            "COCO cannot express; export as csv, or write them as negative with --unknown negative"
        )
    rows, columns = np.nonzero(manifest.targets == POSITIVE)
    return {
        "images": [{"id": k, "file_name": image} for k, image in enumerate(manifest.images, 1)],
        "categories": [{"id": k, "name": label} for k, label in enumerate(manifest.labels, 1)],
        "annotations": [
            {"id": k, "image_id": row + 1, "category_id": column + 1, "iscrowd": 0}
            for k, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True), 1)
        ],
    }


def with_unknown_as_negative(manifest: Manifest) -> Manifest:
    """Replace unknown labels by negative ones, for formats without unknown labels."""
    return replace(manifest, targets=np.where(manifest.targets == UNKNOWN, NEGATIVE, manifest.targets).astype(np.int8))


def _refuse_boxes(manifest: Manifest) -> None:
    if manifest.boxes is not None:
        raise DataError(
            f"{printable(manifest.name)}: its samples are boxes in images, which this format cannot express; "
            f"use {printable(manifest.split)}.jsonl itself, one JSON object per line"
        )
