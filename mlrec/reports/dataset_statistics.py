"""What a dataset holds, as tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from mlrec.datasets.analysis.statistics import Implication, Shift, Sizes, SplitStatistics
from mlrec.reports.render.table import Column, Row, Table, percent
from mlrec.utils.errors import counted

WANTED = 0.005  # the half width of mAP's interval that one would like: 0.5 points
LISTED = 8
FEW_TO_LEARN, FEW_TO_TEST = 20, 30  # positives; with fewer in a test set the interval of a label's AP is unreliable


@dataclass(frozen=True)
class Power:
    """How precisely mAP will be known.

    Attributes:
        split: the split that is scored.
        images: how many it has.
        half_width: of the 95 % interval of mAP, a fraction.
        basis: what was assumed or measured, in words.
        needed: images of the same kind for a half width of 0.5 points.
    """

    split: str
    images: int
    half_width: float
    basis: str
    needed: int


@dataclass(frozen=True)
class DataStatistics:
    """All of it.

    Attributes:
        name: of the dataset.
        labels: C names.
        splits: every split.
        compared: names of the splits that do not hold one another.
        shifts: labels whose prevalence differs between two of those, by "first → second".
        cooccurrence: C x C samples with both labels.
        implications: labels that never come without another.
        rare: labels with few positives, by split.
        widths, heights: of the images looked at, in pixels.
        objects: square roots of the areas of objects or persons, in pixels.
        object_sizes: how many are small (below 32 x 32 pixels), medium, large (96 x 96 and more), as COCO has it.
        power: what the scored split can tell.
    """

    name: str
    labels: tuple[str, ...]
    splits: list[SplitStatistics]
    compared: list[str]
    shifts: dict[str, list[Shift]]
    cooccurrence: list[list[int]]
    implications: list[Implication]
    rare: dict[str, dict[str, int]] = field(default_factory=dict)
    widths: Sizes | None = None
    heights: Sizes | None = None
    objects: Sizes | None = None
    object_sizes: dict[str, int] = field(default_factory=dict)
    power: Power | None = None

    def to_dict(self) -> dict[str, Any]:
        """For `--json`; prevalences and shares are fractions."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        for split, plain in zip(self.splits, content["splits"], strict=True):
            plain["prevalence"] = [split.prevalence(k) for k in range(len(self.labels))]
            plain["labels_per_sample"] = split.labels_per_sample
        return content


def tables(statistics: DataStatistics) -> list[Table]:
    """A table of the splits, one of the labels, and what is worth knowing, below it."""
    return [_splits(statistics), _labels(statistics)]


def _splits(statistics: DataStatistics) -> Table:
    columns = (
        Column("split", "split"),
        Column("images", "images", "count"),
        Column("samples", "samples", "count"),
        Column("labels_per_sample", "labels per sample", "mean"),
        Column("most", "most", "count"),
        Column("none", "without any", "count"),
        Column("unknown", "unknown", "count"),
    )
    rows = [
        Row(
            (
                split.split,
                split.images,
                split.samples,
                round(split.labels_per_sample, 2),
                len(split.histogram) - 1,
                split.histogram[0] if split.histogram else 0,
                sum(split.unknown),
            )
        )
        for split in statistics.splits
    ]
    title = f"{statistics.name}: {counted(len(statistics.labels), 'label')}"
    return Table(title, columns, tuple(rows), tuple(_sizes(statistics)))


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
    return Table("Labels", tuple(columns), tuple(rows), notes).without_empty_columns()


def _sizes(statistics: DataStatistics) -> list[str]:
    lines = []
    if statistics.widths and statistics.heights:
        (w0, _, w, _, w1), (h0, _, h, _, h1) = statistics.widths.quantiles, statistics.heights.quantiles
        lines.append(
            f"images: median {w:.0f} x {h:.0f} pixels, {w0:.0f} to {w1:.0f} wide, {h0:.0f} to {h1:.0f} high "
            f"({statistics.widths.count:,} looked at)"
        )
    if statistics.objects:
        total = max(sum(statistics.object_sizes.values()), 1)
        shares = ", ".join(f"{percent(n / total)} % {name}" for name, n in statistics.object_sizes.items())
        lines.append(
            f"objects: {statistics.objects.count:,}, median side {statistics.objects.quantiles[2]:.0f} px; {shares}"
        )
    return lines


def _shifts(by_pair: Mapping[str, Sequence[Shift]]) -> list[str]:
    lines = []
    for pair, shifts in by_pair.items():
        told = [f"{s.label} {percent(s.first)} → {percent(s.second)} %" for s in shifts]
        lines.append(f"prevalence differs, {pair}: {_some(told)}" if told else f"prevalence alike, {pair}")
    return lines


def _implications(statistics: DataStatistics) -> list[str]:
    told = [f"{i.label} never without {i.other} ({counted(i.count, 'time')})" for i in statistics.implications]
    return [f"labels that come together: {_some(told)}"] if told else []


def _rare(rare: Mapping[str, Mapping[str, int]]) -> list[str]:
    return [
        f"few positives in {split}: {_some([f'{label} {count}' for label, count in labels.items()])}"
        for split, labels in rare.items()
        if labels
    ]


def _power(power: Power | None) -> list[str]:
    if power is None:
        return []
    return [
        f"power: mAP on {power.split} ({counted(power.images, 'image')}) will be known to ± "
        f"{percent(power.half_width)} points "
        f"(95 %, {power.basis}); ± {percent(WANTED)} would need {counted(power.needed, 'image')}"
    ]


def _some(told: Sequence[str]) -> str:
    return ", ".join(told[:LISTED]) + (f", and {len(told) - LISTED} more" if len(told) > LISTED else "")
