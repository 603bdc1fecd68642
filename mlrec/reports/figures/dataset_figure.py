"""Plots of dataset statistics: positives of each label, labels per sample, and label co-occurrence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlrec.datasets.analysis.statistics import SplitStatistics
from mlrec.reports.dataset_statistics import DataStatistics
from mlrec.reports.figures.plots import ANNOTATED, COLOURS, draw_cooccurrence, image, style
from mlrec.utils.errors import counted, printable
from mlrec.utils.files import check_ending, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
NAMED = 100  # with more labels, only every k-th name is written at the axes
LONGEST = 28  # characters of a name
LINE = 0.17  # inches: height of the bar of a label


def draw(statistics: DataStatistics, path: Path) -> None:
    """Draw the statistics of a dataset, and write the figure to a file.

    Args:
        statistics: Statistics of the dataset.
        path: File to write: `.png`, `.svg` or `.pdf`.

    Raises:
        UsageError: The file has an unsupported extension.
    """
    ending = check_ending(path, SUFFIXES, "--figure")
    write_bytes(path, image(figure_of(statistics), ending[1:]))


def figure_of(statistics: DataStatistics) -> Figure:
    """Return a figure with dataset statistics; its height depends on the number of labels."""
    from matplotlib.figure import Figure

    splits = [split for split in statistics.splits if split.split in statistics.compared]
    named = min(len(statistics.labels), NAMED)
    with style():
        bars = LINE * named * max(1.0, 0.7 * len(splits))  # bars of several splits share the height of a label
        matrix = max(3.2, (0.3 if named <= ANNOTATED else LINE) * named)
        height = max(bars, matrix + 3.2, 5.0) + 1.2
        figure = Figure(figsize=(5.2 + matrix + 2.2, height), layout="constrained")
        axes = figure.subplot_mosaic(
            [["labels", "histogram"], ["labels", "together"]],
            width_ratios=[5.2, matrix + 2.2],
            height_ratios=[2.6, max(height - 3.8, 1.0)],
        )
        _labels(axes["labels"], statistics, splits)
        _histogram(axes["histogram"], splits)
        _together(axes["together"], statistics)
        sizes = " · ".join(f"{split.split} {split.samples:,}" for split in splits)
        figure.suptitle(f"{printable(statistics.name)}: {counted(len(statistics.labels), 'label')} · samples: {sizes}")
    return figure


def _labels(axes: Any, statistics: DataStatistics, splits: list[SplitStatistics]) -> None:
    """Draw a horizontal bar chart of the label counts by split; the most frequent label is at the top."""
    order = np.argsort([-sum(split.positives[k] for split in splits) for k in range(len(statistics.labels))])
    places, thick = np.arange(len(order)), 0.84 / len(splits)
    for k, split in enumerate(splits):
        counts = [split.positives[label] for label in order]
        at = places + (k + 0.5) * thick - 0.42
        axes.barh(at, counts, thick, label=split.split, color=COLOURS[k % len(COLOURS)])
        if len(order) <= NAMED:
            for y, count in zip(at, counts, strict=True):
                axes.annotate(f"{count:,}", (count, y), (2, 0), textcoords="offset points", va="center", fontsize=6)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, 2.5 * max([1, *(max(split.positives, default=0) for split in splits)]))
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    axes.set_xlabel("positives, logarithmic scale")
    axes.grid(visible=False, axis="y")
    _name(axes.yaxis, [statistics.labels[label] for label in order])
    axes.legend(loc="lower right")


def _histogram(axes: Any, splits: list[SplitStatistics]) -> None:
    """Draw a histogram of the number of positive labels per sample, with one color per split."""
    thick = 0.84 / len(splits)
    for k, split in enumerate(splits):
        shares = 100 * np.array(split.histogram) / max(split.samples, 1)
        at = np.arange(len(shares)) + (k + 0.5) * thick - 0.42
        name = f"{split.split}, mean {split.labels_per_sample:.2f}"
        axes.bar(at, shares, thick, label=name, color=COLOURS[k % len(COLOURS)])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="positive labels per sample", ylabel="samples, %")
    axes.grid(visible=False, axis="x")
    axes.legend()


def _together(axes: Any, statistics: DataStatistics) -> None:
    counts = statistics.cooccurrence.astype(np.float64)
    positives = np.diag(counts)[:, None]
    shares = 100 * np.divide(counts, positives, out=np.full_like(counts, np.nan), where=positives > 0)
    np.fill_diagonal(shares, np.nan)
    draw_cooccurrence(axes, shares, annotated=len(shares) <= ANNOTATED)
    _name(axes.xaxis, statistics.labels, rotation=90)
    _name(axes.yaxis, statistics.labels)
    axes.set_title("% of the positives of the row label that also have the column label", fontsize=9)


def _name(axis: Any, labels: Any, rotation: int = 0) -> None:
    """Write label names next to an axis; if there are more than 100 names, only every k-th name is shown."""
    step = -(-len(labels) // NAMED)
    names = [printable(label)[:LONGEST] for label in labels[::step]]
    axis.set_ticks(range(0, len(labels), step), names, rotation=rotation, fontsize=7)
