"""`mlrec export-data`: export a prepared dataset for other tools.

After `mlrec prepare` has read the exported files, the splits have the same digests as before the export, unless unknown
labels were exported as negatives.
"""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from mlrec.datasets.dataset import load_or_latest
from mlrec.datasets.export import (
    SplitScores,
    as_coco,
    as_coco_results,
    as_csv,
    as_fiftyone,
    as_fiftyone_predictions,
    as_labelstudio,
    as_metadata,
    labeling_config,
    with_unknown_as_negative,
)
from mlrec.datasets.image_paths import without_ending
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.coco import read_coco
from mlrec.datasets.readers.csv_labels import read_csv_labels
from mlrec.datasets.readers.fiftyone import read_fiftyone
from mlrec.datasets.readers.labelstudio import read_labelstudio
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.predictions import Predictions, probabilities_of
from mlrec.run_folders.directory import PREDICTIONS
from mlrec.utils.errors import DataError, MlrecError, PredictionsError, UsageError, ValidationReport, counted
from mlrec.utils.files import file_in, folder_of, link_or_copy, read_text, replace_folder, write_json, write_text
from mlrec.utils.names import label_order

Format = Literal["csv", "coco", "imagefolder", "labelstudio", "fiftyone"]
METADATA, CONFIG = "metadata.csv", "labeling_config.xml"
WITH_PREDICTIONS = ("labelstudio", "fiftyone", "coco")


def export_data(
    data: Path | None = None,
    *,
    format_: Format = "csv",
    out: Path | None = None,
    splits: Sequence[str] | None = None,
    unknown_as_negative: bool = False,
    predictions: Path | None = None,
) -> tuple[Path, str]:
    """Export a prepared dataset to a folder, and check the files by reading them back.

    Args:
        data: Folder of a prepared dataset; by default the most recently prepared dataset.
        format_: Output format. `csv` writes `<split>.csv`. `coco` writes `<split>.json`. `imagefolder` (Hugging Face)
            writes `<split>/metadata.csv` and links to the images, or copies. `labelstudio` writes `<split>.json` and a
            labeling configuration. `fiftyone` writes `<split>/labels.json`.
        out: Folder that is empty or does not exist [default: `<name>-<format>`].
        splits: Splits to export; by default all.
        unknown_as_negative: Whether to write unknown labels as negatives.
        predictions: Run, evaluation folder or `predictions.npz` with predictions to export. `labelstudio` stores them
            in the tasks, `fiftyone` in `<split>/predictions.json`, and `coco` in `<split>-results.json`, in the COCO
            results format. Only splits with predictions for all images are exported.

    Returns:
        Folder of the exported files, and the command that prepares a dataset from this folder.

    Raises:
        DataError: The format cannot represent the dataset, the folder is not empty, or images are missing.
        UsageError: The format cannot store predictions.
        PredictionsError: The labels of the predictions differ, no split has predictions for all of its images, or a
            split in `splits` does not.
        MlrecError: A split changes when it is read back.
    """
    if predictions is not None and format_ not in WITH_PREDICTIONS:
        raise UsageError(
            f"--predictions: the {format_} format does not store predictions; choose one of the formats "
            f"{', '.join(WITH_PREDICTIONS)}"
        )
    dataset = load_or_latest(data)
    target = out or Path(f"{dataset.info.name}-{format_}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} already exists; remove it or choose a different --out")
    manifests = [dataset.manifest(split) for split in splits or dataset.info.splits]
    scores: dict[str, SplitScores] = {}
    if predictions is not None:
        scores = _scores(predictions, manifests, every_split=splits is not None)
        manifests = [manifest for manifest in manifests if manifest.split in scores]
    if unknown_as_negative:
        manifests = [with_unknown_as_negative(manifest) for manifest in manifests]
    with replace_folder(target) as folder:
        for manifest in manifests:
            if WRITERS[format_](folder, manifest, scores.get(manifest.split)).digest != manifest.digest:
                raise MlrecError(
                    f"{dataset.path}: split '{manifest.split}' changes when it is read back from {format_}; remove "
                    "spaces at the start and end of names"
                )
    return target, shlex.join(["mlrec", "prepare", *_read_again(target, format_, manifests)])


def _scores(path: Path, manifests: Sequence[Manifest], *, every_split: bool) -> dict[str, SplitScores]:
    """Return the probabilities for each split in which all images have been predicted.

    Raises:
        PredictionsError: There is no such split, labels are missing, or (with `every_split`) a split is missing.
    """
    predictions = Predictions.load(file_in(path, PREDICTIONS))
    name = folder_of(path.absolute()).name
    probabilities = probabilities_of(predictions.logits)
    rows = {sample: row for row, sample in enumerate(predictions.sample_ids)}
    scores = {}
    for manifest in manifests:
        missing = [sample for sample in manifest.sample_ids if sample not in rows]
        if missing and every_split:
            what = f"the file has no prediction for {counted(len(missing), 'image')} of split '{manifest.split}'"
            raise PredictionsError(f"{path}: {what} (first: '{missing[0]}'); omit this split from --splits")
        if not missing:
            try:
                columns = label_order(predictions.labels, manifest.labels)
            except DataError as error:
                raise PredictionsError(f"{path}: {error}") from error
            chosen = [rows[sample] for sample in manifest.sample_ids]
            scores[manifest.split] = SplitScores(name, probabilities[chosen][:, columns])
    if not scores:
        names = ", ".join(manifest.split for manifest in manifests)
        raise PredictionsError(
            f"{path}: no split has predictions for all of its images; choose a predictions file that covers at least "
            f"one complete split ({names})"
        )
    return scores


def _write_csv(folder: Path, manifest: Manifest, _: SplitScores | None) -> Manifest:
    write_text(folder / f"{manifest.split}.csv", as_csv(manifest))
    reading = read_csv_labels(folder / f"{manifest.split}.csv", ReadOptions(), ValidationReport())
    return reading.manifests[0]


def _write_coco(folder: Path, manifest: Manifest, scores: SplitScores | None) -> Manifest:
    file = folder / f"{manifest.split}.json"
    write_json(file, as_coco(manifest))
    if scores is not None:
        write_json(folder / f"{manifest.split}-results.json", as_coco_results(scores))
    options = ReadOptions(annotations=(file,), splits=(manifest.split,), keep_empty=True)
    return read_coco(folder, options, ValidationReport()).manifests[0]


def _write_imagefolder(folder: Path, manifest: Manifest, _: SplitScores | None) -> Manifest:
    """Link images next to `metadata.csv`, as expected by Hugging Face.

    Images are copied if links are not possible.
    """
    place = folder / manifest.split
    text = as_metadata(manifest)
    for image, path in zip(manifest.images, map(manifest.path_of, range(len(manifest))), strict=True):
        target = place / image
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            link_or_copy(path.resolve(), target)
        except OSError as error:
            raise DataError(
                f"{path}: could not copy the file ({error.strerror}); check the permissions and disk space, or use a "
                "different --format"
            ) from error
    write_text(place / METADATA, text)
    rows = list(csv.reader(io.StringIO(read_text(place / METADATA))))
    labels, cells = tuple(rows[0][1:]), rows[1:]
    targets = np.array([row[1:] for row in cells], dtype=np.int8).reshape(len(cells), len(labels))
    return replace(manifest, labels=labels, images=tuple(row[0] for row in cells), targets=targets, sample_ids=())


def _write_labelstudio(folder: Path, manifest: Manifest, scores: SplitScores | None) -> Manifest:
    write_text(folder / CONFIG, labeling_config(manifest.labels))
    file = folder / f"{manifest.split}.json"
    write_json(file, as_labelstudio(manifest, scores))
    return read_labelstudio(file, ReadOptions(images=manifest.root), ValidationReport()).manifests[0]


def _write_fiftyone(folder: Path, manifest: Manifest, scores: SplitScores | None) -> Manifest:
    """Write a split for FiftyOne, and return the split as it is read back.

    Images are named after the existing files. If a file is missing, the image name has no extension.
    """
    file = folder / manifest.split / "labels.json"
    write_json(file, as_fiftyone(manifest))
    if scores is not None:
        write_json(file.with_name("predictions.json"), as_fiftyone_predictions(manifest, scores))
    found = read_fiftyone(file, ReadOptions(images=manifest.root), ValidationReport()).manifests[0]
    endings = {without_ending(image): image for image in manifest.images}
    images = tuple(endings.get(image, image) for image in found.images)
    return replace(found, images=images, sample_ids=images)


# Writes one split into a folder, with the scores of a model, and returns the split as it is read back.
Writer = Callable[[Path, Manifest, SplitScores | None], Manifest]
WRITERS: dict[Format, Writer] = {
    "csv": _write_csv,
    "coco": _write_coco,
    "imagefolder": _write_imagefolder,
    "labelstudio": _write_labelstudio,
    "fiftyone": _write_fiftyone,
}


def _read_again(target: Path, format_: Format, manifests: Sequence[Manifest]) -> list[str]:
    """Return the arguments of the command for preparing the dataset from the exported folder."""
    root = str(manifests[0].root)
    if format_ == "imagefolder":
        return ["csv", str(target)]
    if format_ != "coco":
        return [format_, str(target), "--images", root]
    files = [("--annotations", str(target / f"{m.split}.json"), "--split", m.split) for m in manifests]
    return ["coco", root, "--name", target.name, "--keep-empty", *chain.from_iterable(files)]
