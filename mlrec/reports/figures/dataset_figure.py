"""Figure of a dataset: positives by label, labels per sample, and co-occurrence of labels."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from mlrec.reports.dataset_statistics import DataStatistics
from mlrec.utils.errors import counted, printable
from mlrec.utils.files import check_ending, write_bytes

COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
)  # Okabe and Ito, safe for colour-blind eyes
SUFFIXES = (".png", ".svg", ".pdf")
NAMED = 40  # with more labels, only every k-th name is written at the axes


def draw(statistics: DataStatistics, path: Path) -> None:
    """Draw the statistics of a dataset.

    Args:
        statistics: Statistics of the dataset.
        path: File to write: `.png`, `.svg` or `.pdf`.

    Raises:
        UsageError: The file has another ending.
    """
    from matplotlib.figure import Figure

    ending = check_ending(path, SUFFIXES, "--figure")
    figure = Figure(figsize=(13, 9), layout="constrained")
    axes = figure.subplot_mosaic([["labels", "labels"], ["histogram", "together"]], height_ratios=[1, 1.4])
    _labels(axes["labels"], statistics)
    _histogram(axes["histogram"], statistics)
    _together(axes["together"], statistics, figure)
    figure.suptitle(f"{_plain(statistics.name)}: {counted(len(statistics.labels), 'label')}", fontsize=13)
    content = BytesIO()
    figure.savefig(content, format=ending[1:], dpi=110)
    write_bytes(path, content.getvalue())


def _labels(axes: Any, statistics: DataStatistics) -> None:
    compared = [split for split in statistics.splits if split.split in statistics.compared]
    order = np.argsort([-sum(split.positives[k] for split in compared) for k in range(len(statistics.labels))])
    places = np.arange(len(order))
    for k, split in enumerate(compared):
        heights = [split.positives[label] for label in order]
        width = 0.8 / len(compared)
        axes.bar(places + k * width - 0.4 + width / 2, heights, width, label=split.split, color=_colour(k))
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylabel("positives")
    axes.margins(x=0.01)
    _name(axes.xaxis, [statistics.labels[label] for label in order], rotation=90)
    axes.legend()


def _histogram(axes: Any, statistics: DataStatistics) -> None:
    compared = [split for split in statistics.splits if split.split in statistics.compared]
    for k, split in enumerate(compared):
        shares = np.array(split.histogram) / max(split.samples, 1)
        axes.plot(
            100 * shares,
            marker="os^vDP"[k % 6],
            label=f"{split.split}, mean {split.labels_per_sample:.2f}",
            color=_colour(k),
        )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("positive labels per sample")
    axes.set_ylabel("samples, %")
    axes.legend()


def _together(axes: Any, statistics: DataStatistics, figure: Any) -> None:
    counts = statistics.cooccurrence.astype(np.float64)
    positives = np.diag(counts)[:, None]
    shares = np.divide(counts, positives, out=np.zeros_like(counts), where=positives > 0)
    image = axes.imshow(100 * shares, cmap="cividis", vmin=0, vmax=100, interpolation="nearest")
    _name(axes.xaxis, statistics.labels, rotation=90)
    _name(axes.yaxis, statistics.labels)
    axes.set_title(
        "co-occurrence: % of the positives of the row's label that also have the column's label", fontsize=10
    )
    figure.colorbar(image, ax=axes)


def _name(axis: Any, labels: Any, rotation: int = 0) -> None:
    step = -(-len(labels) // NAMED)
    axis.set_ticks(
        range(0, len(labels), step), [_plain(label) for label in labels[::step]], rotation=rotation, fontsize=8
    )


def _plain(name: str) -> str:
    """Escape `$`, which would start a formula in matplotlib."""
    return printable(name).replace("$", r"\$")


def _colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)]
