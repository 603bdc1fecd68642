"""`mlrec stats`: statistics of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.analysis import statistics
from mlrec.datasets.analysis.statistics import SplitStatistics
from mlrec.datasets.dataset import Dataset, load_or_latest
from mlrec.datasets.images import decode
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.object_sizes import COCO_SIZES, count_sizes
from mlrec.metrics.bootstrap import mAP_interval
from mlrec.metrics.conventions import ScoreKind
from mlrec.metrics.intervals import expected_half_width, images_needed
from mlrec.metrics.scores import one_line, read_scores
from mlrec.reports.dataset_statistics import FEW_TO_LEARN, FEW_TO_TEST, WANTED, DataStatistics, Power
from mlrec.utils.errors import DataError, UsageError, ValidationReport
from mlrec.utils.texts import first_places, joined
from mlrec.workflows.evaluate.score import report_findings

HEADERS_READ = 300  # largest number of image headers read
ASSUMED = 0.8  # AP of every label in the power analysis


def stats(
    data: Path | str | None = None,
    *,
    assumed_ap: float = ASSUMED,
    predictions: Path | None = None,
    kind: ScoreKind | None = None,
    objects: bool = False,
) -> DataStatistics:
    """Compute statistics of a prepared dataset.

    Args:
        data: Folder of a prepared dataset; by default the most recently prepared dataset.
        assumed_ap: AP that the power analysis assumes for every label, greater than 0 and less than 1.
        predictions: Scores for the split `test` (otherwise `val`, otherwise the last split with positives). If set, the
            confidence interval is computed from these scores by bootstrap, instead of from the assumed AP.
        kind: Kind of the scores; if None, the kind is inferred from the values, see `read_scores`.
        objects: Whether to read boxes and masks from the annotations (COCO, VOC); boxes of persons are always
            available.

    Raises:
        UsageError: `assumed_ap` is not between 0 and 1, or `kind` is set without `predictions`.
        MlrecError: The dataset does not exist, or the predictions do not match the dataset.
    """
    if not 0 < assumed_ap < 1:
        raise UsageError(f"--ap must be a fraction between 0 and 1 (such as 0.8), got {assumed_ap}")
    if kind is not None and predictions is None:
        raise UsageError(f"--{kind} describes the scores in --predictions; add --predictions FILE")
    dataset = load_or_latest(data)
    manifests = [dataset.manifest(split) for split in dataset.info.splits]
    described = {manifest.split: statistics.describe(manifest) for manifest in manifests}
    compared = statistics.independent(manifests)
    together, apart = statistics.cooccurrence(compared)
    tested = _tested([described[manifest.split] for manifest in compared])
    areas = _areas(dataset, compared, objects)
    widths, heights = _image_sizes(compared)
    few = dict.fromkeys(described, FEW_TO_LEARN)
    power = None
    if tested is not None:
        few[tested] = FEW_TO_TEST
        power = _power(dataset.manifest(tested), described[tested], assumed_ap, predictions, kind)
    return DataStatistics(
        name=dataset.info.name,
        labels=tuple(dataset.info.labels),
        splits=list(described.values()),
        compared=[manifest.split for manifest in compared],
        shifts={
            f"{a.split} → {b.split}": statistics.shifts(described[a.split], described[b.split])
            for a, b in combinations([m for m in compared if _any_known(described[m.split])], 2)
        },
        cooccurrence=together,
        implications=statistics.implications(dataset.info.labels, together, apart),
        rare={
            manifest.split: statistics.rare(described[manifest.split], few[manifest.split])
            for manifest in compared
            if any(described[manifest.split].positives)
        },
        widths=statistics.sizes(widths),
        heights=statistics.sizes(heights),
        objects=statistics.sizes(np.sqrt(areas)),
        object_sizes=count_sizes(areas, COCO_SIZES) if len(areas) else {},
        power=power,
    )


def _any_known(split: SplitStatistics) -> bool:
    return any(split.positives) or any(split.negatives)


def _tested(splits: Sequence[SplitStatistics]) -> str | None:
    """Return the split to score: `test`, otherwise `val`, otherwise the last split.

    Splits without positives are skipped; if no split has positives, the result is None.
    """
    labelled = [one.split for one in splits if any(one.positives)]
    for split in ("test", "val", *reversed(labelled)):
        if split in labelled:
            return split
    return None


def _power(
    manifest: Manifest,
    described: SplitStatistics,
    assumed: float,
    predictions: Path | None,
    kind: ScoreKind | None,
) -> Power | None:
    images = described.images
    if predictions is None:
        # Without a negative a label has no AP.
        ranked = [p * (n > 0) for p, n in zip(described.positives, described.negatives, strict=True)]
        half = expected_half_width(ranked, assumed)
        basis = f"if every label has AP {100 * assumed:g}"
    else:
        findings = ValidationReport()
        scores = read_scores(predictions, findings, kind=kind).against(manifest)
        one_line(findings, DataError)
        report_findings([scores], findings)
        interval = mAP_interval(scores.values, manifest.targets, groups=manifest.images, threshold=scores.threshold)
        if interval is None:
            return None
        half = interval.half_width
        basis = f"bootstrap on {predictions.name}, mAP {100 * interval.value:.1f}"
    if half is None:
        return None
    return Power(manifest.split, images, half, basis, images_needed(images, half, WANTED))


def _image_sizes(manifests: Sequence[Manifest]) -> tuple[list[int], list[int]]:
    """Return widths and heights of images at regular intervals; empty if there are no image files."""
    names = joined([manifest.images for manifest in manifests])
    images = np.flatnonzero(first_places(names) == np.arange(len(names)))
    ends = np.cumsum([len(manifest) for manifest in manifests])
    sizes = []
    for k in np.linspace(0, len(images) - 1, min(HEADERS_READ, len(images))).astype(int):
        root = manifests[int(np.searchsorted(ends, images[k], side="right"))].root
        try:
            sizes.append(decode.read_size(root / names[images[k]]))
        except DataError:  # statistics do not need the image files
            continue
    return [width for width, _ in sizes], [height for _, height in sizes]


def _areas(dataset: Dataset, manifests: Sequence[Manifest], objects: bool) -> NDArray[np.float64]:
    if objects:
        from mlrec.datasets.objects import load_objects

        parts = [annotated.areas for manifest in manifests for annotated in load_objects(dataset, manifest.split)]
    else:
        parts = [m.boxes[:, 2] * m.boxes[:, 3] for m in manifests if m.boxes is not None]
    return np.concatenate([np.zeros(0), *parts])
