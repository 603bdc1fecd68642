"""Export of manifests to formats of other tools: CSV, COCO, Hugging Face imagefolder, Label Studio and FiftyOne."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from mlrec.datasets.image_paths import without_ending
from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest, duplicates_in
from mlrec.datasets.readers.columns import SPLIT_COLUMN
from mlrec.datasets.readers.csv_labels import NAME_COLUMN
from mlrec.utils.errors import DataError, counted, printable

METADATA_COLUMN = "file_name"  # of a Hugging Face imagefolder
LOCAL_FILES = "/data/local-files/?d="  # Label Studio's reference to a file below its document root


def as_csv(manifest: Manifest, name_column: str = NAME_COLUMN) -> str:
    """Convert a manifest to a CSV `filename,<label>...` with cells 1, 0 and -1 (unknown).

    Args:
        manifest: one split.
        name_column: header of the first column.

    Raises:
        DataError: Samples are boxes, or a label has the name of another column.

    Example:
        >>> from pathlib import Path
        >>> print(as_csv(Manifest("pets", "val", Path("."), ("cat", "dog"), ("a.jpg",), np.array([[1, -1]]))), end="")
        filename,cat,dog
        a.jpg,1,-1
    """
    _refuse_boxes(manifest)
    for name in (name_column, SPLIT_COLUMN):
        if name in manifest.labels:
            raise DataError(f"{printable(manifest.name)}: the label '{name}' has the name of a column; export as coco")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([name_column, *manifest.labels])
    writer.writerows([image, *row] for image, row in zip(manifest.images, manifest.targets.tolist(), strict=True))
    return stream.getvalue()


def as_metadata(manifest: Manifest) -> str:
    """The `metadata.csv` of a Hugging Face imagefolder: `file_name`, then one column of 1, 0 and -1 per label.

    Raises:
        DataError: samples are boxes, or a label has the name of another column.
    """
    return as_csv(manifest, METADATA_COLUMN)


def as_labelstudio(manifest: Manifest) -> list[dict[str, Any]]:
    """Tasks of Label Studio with one annotation each. Images are references to local files below the root.

    Raises:
        DataError: samples are boxes, or a label is unknown somewhere.
    """
    _refuse_boxes(manifest)
    _refuse_unknown(manifest, "Label Studio")
    tasks = []
    for k, (image, labels) in enumerate(zip(manifest.images, _positives(manifest), strict=True), 1):
        choice = {"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": labels}}
        results = [choice] if labels else []
        data = {"image": f"{LOCAL_FILES}{quote(image)}"}
        tasks.append({"id": k, "data": data, "annotations": [{"result": results, "was_cancelled": False}]})
    return tasks


def labeling_config(labels: Sequence[str]) -> str:
    """The labeling configuration of Label Studio that the tasks belong to; it keeps the order of the labels.

    Example:
        >>> "".join(labeling_config(["R&B"]).split())[-41:]
        '<Choicevalue="R&amp;B"/></Choices></View>'
    """
    choices = "".join(f"    <Choice value={quoteattr(label)}/>\n" for label in labels)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <Choices name="choice" toName="image" choice="multiple">\n{choices}  </Choices>\n</View>\n'
    )


def as_fiftyone(manifest: Manifest) -> dict[str, Any]:
    """The `labels.json` of FiftyOne's image classification: `classes`, and numbers of classes by image without ending.

    Raises:
        DataError: samples are boxes, a label is unknown somewhere, or two images differ in their ending alone.
    """
    _refuse_boxes(manifest)
    _refuse_unknown(manifest, "FiftyOne")
    names = [without_ending(image) for image in manifest.images]
    same = duplicates_in(names)
    if same:
        what = f"several images are '{printable(same[0])}' apart from their ending, which FiftyOne leaves out"
        raise DataError(f"{printable(manifest.name)}: {what}; rename one")
    rows = [np.flatnonzero(row == POSITIVE).tolist() for row in manifest.targets]
    return {"classes": list(manifest.labels), "labels": dict(zip(names, rows, strict=True))}


def as_coco(manifest: Manifest) -> dict[str, Any]:
    """Convert a manifest to COCO: categories in label order from 1, one annotation without a box per positive label.

    Raises:
        DataError: Samples are boxes, or a label is unknown, which COCO cannot express.
    """
    _refuse_boxes(manifest)
    _refuse_unknown(manifest, "COCO")
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


def _refuse_unknown(manifest: Manifest, tool: str) -> None:
    unknown = int(np.count_nonzero(manifest.targets == UNKNOWN))
    if unknown:
        raise DataError(
            f"{printable(manifest.name)}: split '{printable(manifest.split)}' has "
            f"{counted(unknown, 'unknown label')}, which {tool} cannot express; "
            "export as csv, or write them as negative with --unknown negative"
        )


def _positives(manifest: Manifest) -> list[list[str]]:
    """The positive labels of each sample, in label order."""
    return [[manifest.labels[k] for k in np.flatnonzero(row == POSITIVE)] for row in manifest.targets]
