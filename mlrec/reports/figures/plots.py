"""Plots for reports: curves of mAP and loss, precision-recall curves, AP of labels, and co-occurrence.

Colors are distinguishable for color-blind readers, and lines also differ in style or marker. Drawing does not require
a display.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlrec.predictions import Floats
from mlrec.reports.render.table import percent
from mlrec.utils.errors import printable
from mlrec.utils.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlrec.reports.paper.figure5 import Series

# Okabe and Ito (2008): eight colors that are distinct in every common kind of color blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLES = ("-", "--", "-.", ":")
FORMATS = ("png", "svg", "pdf")
LONGEST_LEGEND, LONGEST_LABEL = 44, 24  # characters
MOST_PANELS, PANELS_WIDE = 100, 4  # labels in one figure, and in one row of it
ANNOTATED = 20  # labels up to which the cells of a matrix have numbers


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Set matplotlib options for creating and saving a figure; `$` in a name does not start a formula."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        "text.parse_math": False,
        "svg.hashsalt": "mlrec",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "font.size": 9,
        "legend.frameon": False,
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # matplotlib draws a box for a missing glyph
        yield


def image(figure: Figure, kind: str = "png") -> bytes:
    """Return the file content of a figure; identical figures produce identical bytes.

    Args:
        figure: Figure to save.
        kind: File format, "png", "svg" or "pdf".
    """
    stream = io.BytesIO()
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with style():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the layout is computed once, so it is the same in every format
        figure.savefig(stream, format=kind, dpi=150, metadata=metadata)
    return stream.getvalue()


def save(figure: Figure, stem: Path, kinds: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write a figure in each file format of `kinds`, and return the paths of the files."""
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in kinds]
    for path, kind in zip(paths, kinds, strict=True):
        write_bytes(path, image(figure, kind))
    return paths


def sweep_figure(series: Sequence[Series], key: str) -> Figure:
    """Draw mAP against λ or the number of heads H, with one line per series.

    Error bars show one standard deviation, and a ring marks the peak.

    Args:
        series: Series to draw, one line each.
        key: Key on the horizontal axis, "lam" or "heads".
    """
    with style():
        figure, axes = _figure(5.2, 3.4)
        for k, line in enumerate(series):
            x, y = [point.x for point in line.points], [100 * point.mAP for point in line.points]
            bars = [100 * (point.sd or 0.0) for point in line.points]
            marks: dict[str, Any] = {"color": COLOURS[k % 8], "marker": MARKERS[k % 8], "linestyle": STYLES[k % 4]}
            if any(bars):
                marks |= {"yerr": bars}
            axes.errorbar(x, y, capsize=2, ms=4, lw=1.2, label=_short(line.name), **marks)
            axes.plot([line.peak.x], [100 * line.peak.mAP], "o", ms=10, mfc="none", mec=COLOURS[k % 8])
        axes.set(xlabel={"lam": "λ", "heads": "number of heads H"}[key], ylabel="mAP, %")
        title = "ring: peak"
        if any(point.sd for line in series for point in line.points):
            title += ", bars: standard deviation over seeds"
        axes.legend(title=title, fontsize="small", title_fontsize="small")
        return figure


def learning_figure(logs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> Figure:
    """Draw the training loss and the mAP of methods against the epoch.

    Curves show the mean over seeds, with a band of one standard deviation. If no method was evaluated in more than one
    epoch, the mAP panel is omitted.

    Args:
        logs: Dict from method name to a list of logs, one per seed. A log is the list of entries in `log.jsonl`.
    """
    curves = [("epoch", "loss", 1)]
    if any(len(over_epochs(seeds, "scored", "mAP")[0]) > 1 for seeds in logs.values()):
        curves.append(("scored", "mAP", 100))
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.6 * len(curves), 3.4), layout="constrained")
        panels = figure.subplots(1, len(curves), squeeze=False)[0]
        for k, (name, seeds) in enumerate(logs.items()):
            line = {"color": COLOURS[k % 8], "linestyle": STYLES[k // 8 % 4], "lw": 1.4, "label": _legend(name, seeds)}
            for panel, (event, key, factor) in zip(panels, curves, strict=True):
                epochs, values = over_epochs(seeds, event, key)
                mean, spread = factor * values.mean(axis=0), np.zeros(len(epochs))
                if len(seeds) > 1:
                    spread = factor * values.std(axis=0, ddof=1)
                panel.plot(epochs, mean, marker=MARKERS[k % 8], ms=3, **line)
                panel.fill_between(epochs, mean - spread, mean + spread, color=COLOURS[k % 8], alpha=0.2, lw=0)
        for panel, name in zip(panels, ("training loss, mean over the epoch", "mAP, %"), strict=False):
            panel.set(xlabel="epoch", ylabel=name)
            panel.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=len(curves), fontsize="small"
        )
        return figure


def over_epochs(
    seeds: Sequence[Sequence[Mapping[str, Any]]], event: str, key: str
) -> tuple[list[int], NDArray[np.float64]]:
    """Return the E epochs logged for all seeds, and a (seeds, E) array of the values of a key.

    Args:
        seeds: Log entries of each seed.
        event: Event type of the entries.
        key: Key of the value; entries with the value None are skipped.
    """
    curves = []
    for entries in seeds:
        of_event = [entry for entry in entries if entry.get("event") == event and entry.get(key) is not None]
        curves.append({int(entry["epoch"]): float(entry[key]) for entry in of_event})
    epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
    return epochs, np.array([[curve[epoch] for epoch in epochs] for curve in curves])


def _legend(name: str, seeds: Sequence[object]) -> str:
    if len(seeds) == 1:
        return _short(name)
    return f"{_short(name)}, {len(seeds)} seeds"


def precision_recall_figure(
    logits: Floats, targets: NDArray[np.int8], average_precision: Mapping[str, float | None]
) -> Figure:
    """Draw precision against recall, with one panel per label.

    Each panel shows the AP, the number of positives n, and a dot for the threshold p = 0.5, if any sample reaches the
    threshold. Labels without positive samples have no panel; only the first 100 other labels have one.

    Args:
        logits: (N, C) array of logits.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown); unknown annotations are ignored.
        average_precision: Dict from label name to AP, in the order of the columns; an undefined AP is None.
    """
    positives = (targets == 1).sum(axis=0)
    shown = [(c, label) for c, label in enumerate(average_precision) if positives[c]][:MOST_PANELS]
    with style():
        from matplotlib.figure import Figure

        wide = min(PANELS_WIDE, max(1, len(shown)))
        high = max(1, math.ceil(len(shown) / wide))
        figure = Figure(figsize=(1.75 * wide, 1.8 * high + 0.3), layout="constrained")
        panels = figure.subplots(high, wide, squeeze=False, sharex=True, sharey=True)
        for panel in panels.flat[len(shown) :]:
            panel.set_axis_off()
        for panel, (c, label) in zip(panels.flat, shown, strict=False):
            recall, precision, at_half = curve(logits[:, c], targets[:, c])
            # the step before each point has the precision of the point, so the area under the curve is AP
            panel.step([0.0, *recall], [precision[0], *precision], where="pre", color=COLOURS[0], lw=1)
            if at_half is not None:
                panel.plot(*at_half, "o", color=COLOURS[1], ms=4)
            facts = f"AP {percent(average_precision[label])}, n = {positives[c]:,}"
            panel.set_title(f"{_cut(label)}\n{facts}", fontsize=8)
            panel.set(xlim=(0, 1.02), ylim=(0, 1.05))
        figure.supxlabel("recall", fontsize=9)
        figure.supylabel("precision", fontsize=9)
        return figure


def curve(
    scores: Floats, targets: NDArray[np.int8]
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float] | None]:
    """Return the precision-recall curve of one label.

    Args:
        scores: (N,) array of scores.
        targets: (N,) array of 1 (positive), 0 (negative) or -1 (unknown).

    Returns:
        Recall and precision at each distinct score, in descending order of the score, and a point with the recall and
        precision at threshold 0. The point is None if all scores are negative.
    """
    known = targets >= 0
    scores, positive = scores[known], targets[known] == 1
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # last position of each distinct score
    hits = np.cumsum(positive[order])[last]
    precision, recall = hits / (last + 1), hits / positive.sum()
    predicted = scores >= 0
    if not predicted.any():
        return recall, precision, None
    true_positives = int(positive[predicted].sum())
    return recall, precision, (true_positives / int(positive.sum()), true_positives / int(predicted.sum()))


def ap_figure(ours: Mapping[str, float | None], theirs: Mapping[str, float | None], names: tuple[str, str]) -> Figure:
    """Draw the AP of each label in two runs as two points on a line, with the largest gain at the top.

    The gain is the AP in the first run minus the AP in the second run. Labels whose AP is undefined in one of the runs
    are omitted.

    Args:
        ours: AP of each label in the first run.
        theirs: AP of each label in the second run.
        names: Names of both runs for the legend.
    """
    both: list[tuple[str, float, float]] = []
    for label, a in ours.items():
        b = theirs.get(label)
        if a is not None and b is not None:
            both.append((label, a, b))
    both.sort(key=lambda item: item[1] - item[2])
    with style():
        figure, axes = _figure(5.2, 1.2 + 0.2 * max(3, len(both)))
        for y, (_, a, b) in enumerate(both):
            axes.plot([100 * b, 100 * a], [y, y], color="0.6", lw=1, zorder=1)
        places = range(len(both))
        axes.plot([100 * b for _, _, b in both], places, "s", color=COLOURS[1], ms=4, label=_short(names[1]))
        axes.plot([100 * a for _, a, _ in both], places, "o", color=COLOURS[0], ms=5, label=_short(names[0]))
        axes.set_yticks(places, [printable(label)[:32] for label, _, _ in both])
        axes.set(xlabel="AP, %", ylim=(-0.7, max(1, len(both)) - 0.3))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize="small")
        return figure


def cooccurrence_figure(targets: NDArray[np.int8], labels: Sequence[str]) -> Figure:
    """Draw the percentage of the samples with the row label that also have the column label.

    If there are at most 20 labels, percentages of at least 0.5 are also printed in the cells. The diagonal and the rows
    of labels without positive samples are blank.

    Args:
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown).
        labels: Names of the C labels.
    """
    positive = (targets == 1).astype(np.float64)
    together, each = positive.T @ positive, positive.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 100 * together / each[:, None]
    np.fill_diagonal(share, np.nan)
    annotated = len(labels) <= ANNOTATED
    with style():
        cell, font = 0.17, 7  # inches, and points
        if annotated:  # a number needs more room
            cell, font = 0.36, 8
        size = max(2.0, cell * len(labels))
        figure, axes = _figure(size + 2.6, size + 1.6)
        draw_cooccurrence(axes, share, annotated=annotated)
        names = [_cut(label) for label in labels]
        axes.set_xticks(range(len(labels)), names, rotation=90, fontsize=font)
        rows = [f"{name} ({count:,.0f})" for name, count in zip(names, each, strict=True)]
        axes.set_yticks(range(len(labels)), rows, fontsize=font)
        axes.set(xlabel="label that is also positive", ylabel="positive label (number of positives)")
        bar = figure.colorbar(axes.images[0], ax=axes, shrink=0.6, label="% of the positives of the row")
        bar.outline.set_visible(False)
        return figure


def draw_cooccurrence(axes: Any, share: NDArray[np.float64], *, annotated: bool) -> None:
    """Draw a matrix of percentages in light colors; cells with NaN are blank.

    Args:
        axes: matplotlib axes.
        share: (C, C) matrix of percentages.
        annotated: Whether to print percentages of at least 0.5 in the cells.
    """
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100, interpolation="nearest", aspect="equal")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    if not annotated:
        return
    for row, column in zip(*np.nonzero(share >= 0.5), strict=True):
        value = share[row, column]
        color = "white" if value > 60 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=color)


def _cut(label: str) -> str:
    """Shorten a label to 24 characters."""
    return printable(label)[:LONGEST_LABEL]


def _short(name: str) -> str:
    """Shorten a name for a legend; the end is kept, because run names often differ only at the end."""
    shown = printable(name)
    if len(shown) > LONGEST_LEGEND:
        shown = "…" + shown[-LONGEST_LEGEND:]
    return shown


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
