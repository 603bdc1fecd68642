"""Statistics of a dataset as tables and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mlrec.datasets.analysis.statistics import Counts, Implication, Shift, Sizes, SplitStatistics
from mlrec.reports.render.table import Column, Row, Table, percent
from mlrec.utils.errors import counted, first_of

WANTED = 0.005  # desired half width of the mAP interval: 0.5 points
LISTED = 8  # labels named in a note
FEW_TO_LEARN, FEW_TO_TEST = 20, 30  # positives; with fewer in a test set the interval of a label's AP is unreliable


@dataclass(frozen=True)
class Power:
    """Expected precision of the mAP estimate on a split.

    Attributes:
        split: Split that is scored.
        images: Number of images in the split.
        half_width: Half-width of the 95% confidence interval for mAP, as a fraction.
        basis: Text that states the assumption or measurement behind the estimate.
        needed: Number of images that would be needed for a half-width of 0.5 points.
    """

    split: str
    images: int
    half_width: float
    basis: str
    needed: int


@dataclass(frozen=True)
class DataStatistics:
    """Statistics of a dataset: splits, labels, prevalence shifts, co-occurrence and sizes.

    Attributes:
        name: Name of the dataset.
        labels: Names of the C labels.
        splits: Statistics of every split.
        compared: Names of the splits that are compared; no split in this list contains another split.
        shifts: Dict from a pair of compared splits ("first → second") to the labels whose prevalence differs between
            these splits.
        cooccurrence: (C, C) array with the number of samples that have both the row label and the column label.
        implications: Pairs of labels in which the first label never occurs without the second.
        rare: For each split, the number of positives of every label that has few positives.
        widths, heights: Quantiles of the widths and heights of the checked images, in pixels.
        objects: Quantiles of the square roots of the areas of objects or persons, in pixels.
        object_sizes: Number of small, medium and large objects. As in COCO, small is below 32 x 32 pixels, and large is
            96 x 96 pixels or more.
        power: Expected precision of the mAP estimate on the scored split.
    """

    name: str
    labels: tuple[str, ...]
    splits: list[SplitStatistics]
    compared: list[str]
    shifts: dict[str, list[Shift]]
    cooccurrence: Counts
    implications: list[Implication]
    rare: dict[str, dict[str, int]] = field(default_factory=dict)
    widths: Sizes | None = None
    heights: Sizes | None = None
    objects: Sizes | None = None
    object_sizes: dict[str, int] = field(default_factory=dict)
    power: Power | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as JSON-compatible data; prevalences and other proportions are fractions."""
        content: dict[str, Any] = msgspec.to_builtins(self, enc_hook=lambda counts: counts.tolist())
        for split, plain in zip(self.splits, content["splits"], strict=True):
            plain["prevalence"] = [split.prevalence(k) for k in range(len(self.labels))]
            plain["labels_per_sample"] = split.labels_per_sample
        return content


def tables(statistics: DataStatistics) -> list[Table]:
    """Return a table of the splits and a table of the labels, with footnotes."""
    return [_splits(statistics), _labels(statistics)]


def _splits(statistics: DataStatistics) -> Table:
    columns = (
        Column("split", "split"),
        Column("images", "images", "count"),
        Column("samples", "samples", "count"),
        Column("labels_per_sample", "labels per sample", "mean"),
        Column("most", "most", "count"),
        Column("none", "without label", "count"),
        Column("unknown", "unknown", "count"),
    )
    rows = []
    for split in statistics.splits:
        most = len(split.histogram) - 1
        without_label = sum(split.histogram[:1])  # the histogram of an empty split is empty
        mean = round(split.labels_per_sample, 2)
        rows.append(Row((split.split, split.images, split.samples, mean, most, without_label, sum(split.unknown))))
    title = f"{statistics.name}: {counted(len(statistics.labels), 'label')}"
    return Table(title, columns, tuple(rows), tuple(_sizes(statistics)), name="splits")


def _labels(statistics: DataStatistics) -> Table:
    compared = [split for split in statistics.splits if split.split in statistics.compared]
    columns = [Column("label", "label")]
    for split in compared:
        columns.append(Column(f"{split.split}_positives", "positives", "count", block=split.split))
        columns.append(Column(f"{split.split}_negatives", "negatives", "count", block=split.split))
        columns.append(Column(f"{split.split}_unknown", "unknown", "count", block=split.split))
        columns.append(Column(f"{split.split}_prevalence", "%", "percent", block=split.split))
    rows = []
    for k, label in enumerate(statistics.labels):
        cells: list[float | int | str | None] = [label]
        for split in compared:
            cells += [split.positives[k], split.negatives[k], split.unknown[k] or None, split.prevalence(k)]
        rows.append(Row(tuple(cells)))
    notes = (
        *_shifts(statistics.shifts),
        *_implications(statistics),
        *_rare(statistics.rare),
        *_power(statistics.power),
    )
    return Table("Labels", tuple(columns), tuple(rows), notes, name="labels").without_empty_columns()


def _sizes(statistics: DataStatistics) -> list[str]:
    lines = []
    if statistics.widths and statistics.heights:
        (w0, _, w, _, w1), (h0, _, h, _, h1) = statistics.widths.quantiles, statistics.heights.quantiles
        lines.append(
            f"images: median {w:.0f} x {h:.0f} pixels, {w0:.0f} to {w1:.0f} wide, {h0:.0f} to {h1:.0f} high "
            f"({counted(statistics.widths.count, 'image')} read)"
        )
    if statistics.objects:
        total = max(sum(statistics.object_sizes.values()), 1)
        shares = ", ".join(f"{percent(n / total)}% {name}" for name, n in statistics.object_sizes.items())
        lines.append(
            f"objects: {statistics.objects.count:,}, median side {statistics.objects.quantiles[2]:.0f} px; {shares}"
        )
    return lines


def _shifts(by_pair: Mapping[str, Sequence[Shift]]) -> list[str]:
    lines = []
    for pair, shifts in by_pair.items():
        if shifts:
            changes = [f"{shift.label} {percent(shift.first)} → {percent(shift.second)}%" for shift in shifts]
            lines.append(f"prevalence differs ({pair}): {first_of(changes, LISTED)}")
        else:
            lines.append(f"no difference in prevalence ({pair})")
    return lines


def _implications(statistics: DataStatistics) -> list[str]:
    pairs = [f"{i.label} never occurs without {i.other} ({counted(i.count, 'time')})" for i in statistics.implications]
    if not pairs:
        return []
    return [f"labels that occur together: {first_of(pairs, LISTED)}"]


def _rare(rare: Mapping[str, Mapping[str, int]]) -> list[str]:
    lines = []
    for split, labels in rare.items():
        if labels:
            counts = [f"{label} {count}" for label, count in labels.items()]
            lines.append(f"few positives in {split}: {first_of(counts, LISTED)}")
    return lines


def _power(power: Power | None) -> list[str]:
    if power is None:
        return []
    return [
        f"power: mAP on {power.split} ({counted(power.images, 'image')}) will be known to ± "
        f"{percent(power.half_width)} points (95%, {power.basis}); ± {percent(WANTED)} points would require "
        f"{counted(power.needed, 'image')}"
    ]
