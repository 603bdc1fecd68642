"""Export of manifests to the formats of other tools.

The formats are CSV, COCO, Hugging Face imagefolder, Label Studio and FiftyOne.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.image_paths import without_ending
from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest
from mlrec.datasets.readers.columns import SPLIT_COLUMN
from mlrec.datasets.readers.csv_labels import NAME_COLUMN
from mlrec.utils.errors import DataError, counted
from mlrec.utils.names import duplicates_in

METADATA_COLUMN = "file_name"  # image column in a Hugging Face imagefolder
LOCAL_FILES = "/data/local-files/?d="  # Label Studio's reference to a file below its document root
PREDICTED = 0.5  # probability at or above which a label is predicted


@dataclass(frozen=True, eq=False)
class SplitScores:
    """Model probabilities for the samples and labels of a manifest, in the order of the manifest.

    Attributes:
        model: Name of the model.
        probabilities: (N, C) array of probabilities.
    """

    model: str
    probabilities: NDArray[np.float64]


def as_csv(manifest: Manifest, name_column: str = NAME_COLUMN) -> str:
    """Convert a manifest to CSV with one column per label.

    The header is `filename,<label>...`, and the cell values are 1 (positive), 0 (negative) and -1 (unknown).

    Args:
        manifest: Manifest of one split.
        name_column: Header of the first column.

    Raises:
        DataError: Samples are boxes, or a label has the same name as another column.

    Example:
        >>> from pathlib import Path
        >>> print(as_csv(Manifest("pets", "val", Path("."), ("cat", "dog"), ("a.jpg",), np.array([[1, -1]]))), end="")
        filename,cat,dog
        a.jpg,1,-1
    """
    _refuse_boxes(manifest)
    for name in (name_column, SPLIT_COLUMN):
        if name in manifest.labels:
            raise DataError(f"{manifest.name}: the label '{name}' has the same name as a column; use --format coco")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([name_column, *manifest.labels])
    writer.writerows([image, *row] for image, row in zip(manifest.images, manifest.targets.tolist(), strict=True))
    return stream.getvalue()


def as_metadata(manifest: Manifest) -> str:
    """Return the `metadata.csv` of a Hugging Face imagefolder.

    The first column is `file_name`, followed by one column per label with the values 1 (positive), 0 (negative) and -1
    (unknown).

    Raises:
        DataError: Samples are boxes, or a label has the same name as another column.
    """
    return as_csv(manifest, METADATA_COLUMN)


def as_labelstudio(manifest: Manifest, scores: SplitScores | None = None) -> list[dict[str, Any]]:
    """Convert a manifest to Label Studio tasks, each with at most one annotation.

    Images are referenced as local files.

    If all labels of an image are unknown, its task has no annotation. With `scores`, each task also has a prediction
    with the labels whose probability p is at least 0.5. The score of the prediction is the minimum of max(p, 1 - p)
    over the labels, so that uncertain images can be reviewed first. The probabilities are in the `meta` field of the
    task. References to image files are relative to the root of the manifest.

    Raises:
        DataError: Samples are boxes, or some but not all labels of a sample are unknown.
    """
    _refuse_boxes(manifest)
    _refuse_unknown(manifest, "Label Studio")
    tasks: list[dict[str, Any]] = []
    for k, (image, row) in enumerate(zip(manifest.images, manifest.targets, strict=True)):
        annotations = []
        if not _is_unlabelled(row):
            annotations.append({"result": _choices(manifest.labels, row == POSITIVE), "was_cancelled": False})
        task = {"id": k + 1, "data": {"image": f"{LOCAL_FILES}{quote(image)}"}, "annotations": annotations}
        if scores is not None:
            p = scores.probabilities[k]
            confidence = round(float(np.maximum(p, 1 - p).min()), 6)
            result = _choices(manifest.labels, p >= PREDICTED)
            task["predictions"] = [{"model_version": scores.model, "score": confidence, "result": result}]
            task["meta"] = {"probabilities": dict(zip(manifest.labels, p.round(6).tolist(), strict=True))}
        tasks.append(task)
    return tasks


def _choices(labels: Sequence[str], chosen: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Return the Label Studio result for these labels; empty if no label is chosen."""
    names = [labels[k] for k in np.flatnonzero(chosen).tolist()]
    if not names:
        return []
    return [{"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": names}}]


def labeling_config(labels: Sequence[str]) -> str:
    """Return the Label Studio labeling configuration for these labels, in this order.

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
    """Convert a manifest to the `labels.json` of FiftyOne's image classification format.

    The file contains `classes`, and a mapping from image names (without extensions) to class indices. If all labels of
    an image are unknown, its value is null, which means that the image is not annotated.

    Raises:
        DataError: Samples are boxes, some but not all labels of a sample are unknown, or two image names differ only in
            their extension.
    """
    _refuse_boxes(manifest)
    _refuse_unknown(manifest, "FiftyOne")
    rows = [None if _is_unlabelled(row) else np.flatnonzero(row == POSITIVE).tolist() for row in manifest.targets]
    return {"classes": list(manifest.labels), "labels": dict(zip(_without_endings(manifest), rows, strict=True))}


def as_fiftyone_predictions(manifest: Manifest, scores: SplitScores) -> dict[str, Any]:
    """Return the predicted labels (p >= 0.5) and their confidences in the format of `as_fiftyone`."""
    rows = [
        [{"label": int(k), "confidence": round(float(p[k]), 6)} for k in np.flatnonzero(p >= PREDICTED)]
        for p in scores.probabilities
    ]
    return {"classes": list(manifest.labels), "labels": dict(zip(_without_endings(manifest), rows, strict=True))}


def _without_endings(manifest: Manifest) -> list[str]:
    names = [without_ending(image) for image in manifest.images]
    same = duplicates_in(names)
    if same:
        raise DataError(
            f"{manifest.name}: multiple images have the name '{same[0]}' with different extensions, but FiftyOne "
            "omits extensions; rename all but one of these images"
        )
    return names


def as_coco(manifest: Manifest) -> dict[str, Any]:
    """Convert a manifest to COCO format; the annotations have no boxes.

    Each label is a category (ids start at 1), and each positive label of an image is an annotation.

    Raises:
        DataError: Samples are boxes, or a label is unknown, which COCO cannot represent.
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


def as_coco_results(scores: SplitScores) -> list[dict[str, Any]]:
    """Return model probabilities as COCO results that match the dataset from `as_coco`.

    There is one result per image and category; its score is the probability, and it has no box.
    """
    return [
        {"id": k, "image_id": row + 1, "category_id": column + 1, "score": round(float(p), 6)}
        for k, ((row, column), p) in enumerate(np.ndenumerate(scores.probabilities), 1)
    ]


def with_unknown_as_negative(manifest: Manifest) -> Manifest:
    """Replace unknown labels with negative labels, for formats without unknown labels."""
    return replace(manifest, targets=np.where(manifest.targets == UNKNOWN, NEGATIVE, manifest.targets).astype(np.int8))


def _refuse_boxes(manifest: Manifest) -> None:
    if manifest.boxes is not None:
        raise DataError(
            f"{manifest.name}: the samples are boxes in images, but this format supports only whole images; "
            f"use {manifest.split}.jsonl in the dataset folder instead"
        )


def _refuse_unknown(manifest: Manifest, tool: str) -> None:
    targets = manifest.targets
    if tool != "COCO":  # the other formats support images without annotations
        targets = targets[~(targets == UNKNOWN).all(axis=1)]
    unknown = int(np.count_nonzero(targets == UNKNOWN))
    if unknown:
        raise DataError(
            f"{manifest.name}: split '{manifest.split}' has "
            f"{counted(unknown, 'unknown label')}, which {tool} cannot represent; "
            "use --format csv, or write them as negative with --unknown negative"
        )


def _is_unlabelled(row: NDArray[np.int8]) -> bool:
    return bool((row == UNKNOWN).all())
