"""Report figures, each with a caption and the stem of the file name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlrec.predictions import Floats
from mlrec.reports.by_label import distinct_names
from mlrec.reports.figures import plots
from mlrec.reports.paper.figure5 import series_of
from mlrec.reports.results import Result, result_of, scores_and_truth
from mlrec.run_folders import directory
from mlrec.run_folders.record import Run
from mlrec.utils.errors import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CURVES = 8  # more lines cannot be distinguished
EXTREMES = 12  # labels with the lowest, and with the highest AP, in a figure of many labels


@dataclass(frozen=True)
class ReportFigure:
    """Figure in a report, with its caption and file name.

    Attributes:
        stem: File name without extension.
        caption: Description of the figure.
        figure: Figure to show.
        folded: Whether a page shows the figure only after a click on the caption.
    """

    stem: str
    caption: str
    figure: Figure
    folded: bool = False


def figures(runs: Sequence[Run], rows: Sequence[Result], labels: Sequence[str] | None = None) -> list[ReportFigure]:
    """Return all figures for a set of runs.

    Args:
        runs: Finished runs.
        rows: Results of these runs, as in the table of the report.
        labels: Labels of the report; by default all.
    """
    return [*_sweeps(rows), *_learning(runs, rows), *_blocks(runs, rows, labels)]


def write_figures(drawn: Sequence[ReportFigure], folder: Path) -> list[Path]:
    """Write each figure as PNG, SVG and PDF into `folder`, and return the paths."""
    return [path for one in drawn for path in plots.save(one.figure, folder / one.stem, plots.FORMATS)]


def _sweeps(rows: Sequence[Result]) -> list[ReportFigure]:
    drawn = []
    for key, stem, sign in (("lam", "map-lambda", "λ"), ("heads", "map-heads", "the number of heads")):
        by_group: dict[str, list[Any]] = {}
        for line in series_of(rows, key):
            by_group.setdefault(line.group, []).append(line)
        for k, (group, lines) in enumerate(by_group.items()):
            caption = f"mAP against {sign}; bars: one standard deviation over seeds; ring: peak. {group}"
            drawn.append(ReportFigure(_numbered(stem, k, by_group), caption, plots.sweep_figure(lines, key)))
    return drawn


def _numbered(stem: str, k: int, groups: Sized) -> str:
    """Append the group number to a stem if there are multiple groups."""
    if len(groups) == 1:
        return stem
    return f"{stem}-{k + 1}"


def _learning(runs: Sequence[Run], rows: Sequence[Result]) -> list[ReportFigure]:
    """Return the learning curves of the last results; each curve is the mean over the seeds of a result."""
    paths = {run.path for run in runs}
    shown = rows[-MOST_CURVES:]
    logs = {}
    for name, row in zip(distinct_names(shown), shown, strict=True):
        entries = [directory.log_entries(path) for path in row.paths if path in paths]
        if any(entries):
            logs[name] = [some for some in entries if some]
    if not logs:
        return []
    caption = "Training loss of each epoch, and mAP if several epochs were evaluated."
    if any(len(seeds) > 1 for seeds in logs.values()):
        caption += " Lines: mean over seeds; bands: one standard deviation."
    if len(rows) > MOST_CURVES:
        caption += f" The last {MOST_CURVES} of {counted(len(rows), 'result')}."
    return [ReportFigure("learning", caption, plots.learning_figure(logs))]


def _blocks(runs: Sequence[Run], rows: Sequence[Result], labels: Sequence[str] | None) -> list[ReportFigure]:
    """Return the figures for each block of comparable results.

    The figures are the precision-recall curves of the best run, the AP by label compared with the best average-pooling
    run, and the label co-occurrence, once per dataset.
    """
    by_path = {run.path: run for run in runs}
    blocks: dict[object, list[Result]] = {}
    for row in rows:
        blocks.setdefault(row.block, []).append(row)
    figures, datasets = [], set()
    for k, members in enumerate(blocks.values()):
        best = best_of(members)
        logits, targets, names = scores_and_truth(by_path[best.paths[0]], labels)
        where = f"{best.dataset} {best.split}"
        scored = result_of(by_path[best.paths[0]], conventions=best.conventions, labels=labels)
        stem = _numbered("precision-recall", k, blocks)
        what = f"Precision and recall of {best.names[0]} on {where}"
        figures += _precision_recall(logits, targets, scored.average_precision, stem, what)
        baselines = [row for row in members if row.head == "average"]
        if baselines and best.head != "average":
            base = best_of(baselines)
            caption = f"AP by label on {where}: {best.called} ({best.run}) and {base.called} ({base.run})"
            figure = plots.ap_figure(best.average_precision, base.average_precision, (best.called, base.called))
            figures.append(ReportFigure(_numbered("ap-by-label", k, blocks), caption, figure))
        if (best.digest, names) not in datasets:
            datasets.add((best.digest, names))
            figure = plots.cooccurrence_figure(targets, names)
            figures.append(
                ReportFigure(_numbered("cooccurrence", k, blocks), f"Co-occurrence of labels in {where}", figure)
            )
    return figures


def _precision_recall(
    logits: Floats, targets: NDArray[np.int8], precision: Mapping[str, float | None], stem: str, what: str
) -> list[ReportFigure]:
    """Return the curves of all labels with positives, in ascending order of AP.

    If there are more than 24 labels, there are three figures: the twelve labels with the lowest AP, the twelve with the
    highest AP, and all others.
    """
    names = list(precision)
    order = [k for k in range(len(names)) if (targets[:, k] == 1).any()]
    order.sort(key=lambda k: precision[names[k]] or 0.0)
    parts = [("", f"{what}, from the lowest AP to the highest", order)]
    if len(order) > 2 * EXTREMES:
        parts = [
            ("-worst", f"{what}: the {EXTREMES} labels with the lowest AP", order[:EXTREMES]),
            ("-best", f"{what}: the {EXTREMES} labels with the highest AP", order[-EXTREMES:]),
            ("-others", f"{what}: the other {counted(len(order) - 2 * EXTREMES, 'label')}", order[EXTREMES:-EXTREMES]),
        ]
    drawn = []
    for suffix, caption, columns in parts:
        shown = {names[k]: precision[names[k]] for k in columns}
        figure = plots.precision_recall_figure(logits[:, columns], targets[:, columns], shown)
        caption += "; n: positives, dot: p = 0.5"
        drawn.append(ReportFigure(stem + suffix, caption, figure, folded=suffix == "-others"))
    return drawn


def best_of(results: Sequence[Result]) -> Result:
    """Return the result with the highest mAP."""
    return max(results, key=lambda result: result.values["mAP"] or 0.0)
