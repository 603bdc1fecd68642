"""A manifest in formats of other tools: the CSV that mlrec reads, and COCO-style JSON."""

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
    """`filename,<label>...` with 1, 0 and -1 (unknown).

    Raises:
        DataError: samples are boxes, or a label has the name of another column.
    """
    _refuse_boxes(manifest)
    for name in (NAME_COLUMN, SPLIT_COLUMN):
        if name in manifest.labels:
            raise DataError(f"{printable(manifest.name)}: a label is called '{name}', as a column is; export as coco")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([NAME_COLUMN, *manifest.labels])
    writer.writerows([image, *row] for image, row in zip(manifest.images, manifest.targets.tolist(), strict=True))
    return stream.getvalue()


def as_coco(manifest: Manifest) -> dict[str, Any]:
    """`images`, `categories` (numbered from 1 in label order) and one annotation, without a box, a positive label.

    Raises:
        DataError: samples are boxes, or a label is unknown somewhere, which COCO cannot say.
    """
    _refuse_boxes(manifest)
    unknown = int(np.count_nonzero(manifest.targets == UNKNOWN))
    if unknown:
        raise DataError(
            f"{printable(manifest.name)}: split '{printable(manifest.split)}' has "
            f"{counted(unknown, 'unknown label')}, which "
            "COCO cannot say; export as csv, or write them as negative with --unknown negative"
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
    """The manifest for formats that know yes and no alone."""
    return replace(manifest, targets=np.where(manifest.targets == UNKNOWN, NEGATIVE, manifest.targets).astype(np.int8))


def _refuse_boxes(manifest: Manifest) -> None:
    if manifest.boxes is not None:
        raise DataError(
            f"{printable(manifest.name)}: its samples are boxes in images, which this format cannot say; "
            f"read {printable(manifest.split)}.jsonl itself, one JSON object a line"
        )
