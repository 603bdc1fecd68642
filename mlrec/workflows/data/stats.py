"""`mlrec stats`: look at a dataset before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.analysis import statistics
from mlrec.datasets.dataset import Dataset
from mlrec.datasets.images import decode
from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest
from mlrec.metrics.bootstrap import mAP_interval
from mlrec.metrics.conventions import ScoreKind
from mlrec.metrics.intervals import expected_half_width, images_needed
from mlrec.metrics.scores import one_line, read_scores
from mlrec.reports.dataset_statistics import FEW_TO_LEARN, FEW_TO_TEST, WANTED, DataStatistics, Power
from mlrec.utils.errors import DataError, UsageError, ValidationReport
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate.score import report_findings

LOOKED_AT = 300  # image headers read, at most
ASSUMED = 0.8
COCO_SIZES = {"small": 32.0**2, "medium": 96.0**2, "large": np.inf}  # upper bounds of areas in square pixels


def stats(
    data: Path | None = None,
    *,
    assumed_ap: float = ASSUMED,
    predictions: Path | None = None,
    kind: ScoreKind | None = None,
    objects: bool = False,
    progress: Progress = SILENT,
) -> DataStatistics:
    """What the dataset in the folder `data` holds.

    Args:
        data: a prepared dataset; the one prepared last where None.
        assumed_ap: the AP of every label, 0 to 1, assumed in the power line.
        predictions: scores of the tested split, whose bootstrap interval then makes the power line.
        kind: Kind of these scores; None decides by the values, see `read_scores`.
        objects: read boxes and masks again from the annotations (COCO, VOC); boxes of persons are known anyway.
        progress: is told warnings.

    Raises:
        MlrecError: no such dataset, or predictions that do not fit it.
    """
    if not 0 < assumed_ap < 1:
        raise UsageError(f"--ap {assumed_ap}: give a fraction between 0 and 1, such as 0.8")
    if kind is not None and predictions is None:
        raise UsageError(f"--{kind} states what the scores of --predictions are; give --predictions, too")
    dataset = Dataset.load(data) if data is not None else Dataset.latest()
    manifests = [dataset.manifest(split) for split in dataset.info.splits]
    described = {manifest.split: statistics.describe(manifest) for manifest in manifests}
    compared = statistics.independent(manifests)
    together, apart = statistics.cooccurrence(compared)
    tested = _tested(compared)
    areas = _areas(dataset, compared, objects)
    widths, heights = _image_sizes(compared)
    return DataStatistics(
        name=dataset.info.name,
        labels=tuple(dataset.info.labels),
        splits=list(described.values()),
        compared=[manifest.split for manifest in compared],
        shifts={
            f"{a.split} → {b.split}": statistics.shifts(described[a.split], described[b.split])
            for a, b in combinations([m for m in compared if (m.targets != UNKNOWN).any()], 2)
        },
        cooccurrence=together.tolist(),
        implications=statistics.implications(dataset.info.labels, together, apart),
        rare={
            manifest.split: statistics.rare(
                described[manifest.split], FEW_TO_TEST if manifest is tested else FEW_TO_LEARN
            )
            for manifest in compared
            if (manifest.targets == POSITIVE).any()
        },
        widths=statistics.sizes(widths),
        heights=statistics.sizes(heights),
        objects=statistics.sizes(np.sqrt(areas)),
        object_sizes=_by_size(areas),
        power=None if tested is None else _power(tested, assumed_ap, predictions, kind, progress),
    )


def _tested(manifests: Sequence[Manifest]) -> Manifest | None:
    """The split that will be scored: test, else val, else the last; None where no label is known."""
    labelled = {m.split: m for m in manifests if (m.targets == POSITIVE).any()}
    return labelled.get("test") or labelled.get("val") or (list(labelled.values())[-1] if labelled else None)


def _power(
    manifest: Manifest, assumed: float, predictions: Path | None, kind: ScoreKind | None, progress: Progress
) -> Power | None:
    amount = len(set(manifest.images))
    if predictions is None:
        ranked = (manifest.targets == NEGATIVE).any(axis=0)  # without a negative a label has no AP
        half = expected_half_width(((manifest.targets == POSITIVE).sum(axis=0) * ranked).tolist(), assumed)
        basis = f"if every label has AP {100 * assumed:g}"
    else:
        findings = ValidationReport()
        scores = read_scores(predictions, findings, kind=kind).against(manifest)
        one_line(findings, DataError)
        report_findings([scores], findings, progress)
        interval = mAP_interval(scores.values, manifest.targets, groups=manifest.images, threshold=scores.threshold)
        half = None if interval is None else interval.half_width
        basis = f"bootstrap of {predictions.name}" + (f", mAP {100 * interval.value:.1f}" if interval else "")
    return None if half is None else Power(manifest.split, amount, half, basis, images_needed(amount, half, WANTED))


def _image_sizes(manifests: Sequence[Manifest]) -> tuple[list[int], list[int]]:
    """Widths and heights of some images, evenly chosen; none where the files are not there."""
    there = list(dict.fromkeys((m.root, image) for m in manifests for image in m.images))
    found = []
    for k in np.linspace(0, len(there) - 1, min(LOOKED_AT, len(there))).astype(int):
        root, image = there[k]
        try:
            found.append(decode.read_size(root / image))
        except DataError:  # a dataset may be looked at without its images
            continue
    return [width for width, _ in found], [height for _, height in found]


def _areas(dataset: Dataset, manifests: Sequence[Manifest], objects: bool) -> NDArray[np.float64]:
    if objects:
        from mlrec.datasets.objects import load_objects

        parts = [found.areas for manifest in manifests for found in load_objects(dataset, manifest.split)]
    else:
        parts = [m.boxes[:, 2] * m.boxes[:, 3] for m in manifests if m.boxes is not None]
    return np.concatenate([np.zeros(0), *parts])


def _by_size(areas: NDArray[np.float64]) -> dict[str, int]:
    counts = np.bincount(np.searchsorted(list(COCO_SIZES.values()), areas, side="right"), minlength=len(COCO_SIZES))
    return dict(zip(COCO_SIZES, counts.tolist(), strict=True)) if len(areas) else {}
