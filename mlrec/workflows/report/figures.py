"""The figures of a report: what some runs can show, each by a name that serves as a file's stem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlrec.reports.figures import plots
from mlrec.reports.paper.figure5 import series_of
from mlrec.reports.results import Result, scores_and_truth
from mlrec.runs import log
from mlrec.runs.record import Run
from mlrec.utils.errors import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CURVES = 12  # more lines than that cannot be told apart


@dataclass(frozen=True)
class ReportFigure:
    """A figure, the stem of its file, and one sentence that says what it shows."""

    stem: str
    caption: str
    figure: Figure


def figures(runs: Sequence[Run], rows: Sequence[Result], labels: Sequence[str] | None = None) -> list[ReportFigure]:
    """All figures that these runs can show; `rows` are the same runs as the report's table has them."""
    return [*_sweeps(rows), *_learning(runs), *_blocks(runs, rows, labels)]


def write_figures(drawn: Sequence[ReportFigure], folder: Path) -> list[Path]:
    """Write each figure as PNG and SVG into `folder`; gives the paths."""
    return [path for one in drawn for path in plots.save(one.figure, folder / one.stem)]


def _sweeps(rows: Sequence[Result]) -> list[ReportFigure]:
    drawn = []
    for key, stem, sign in (("lam", "map-lambda", "λ"), ("heads", "map-heads", "the number of heads")):
        by_group: dict[str, list[Any]] = {}
        for line in series_of(rows, key):
            by_group.setdefault(line.group, []).append(line)
        for k, (group, lines) in enumerate(by_group.items()):
            name = stem if len(by_group) == 1 else f"{stem}-{k + 1}"
            caption = f"mAP against {sign}; bars: one standard deviation over seeds; ring: the peak. {group}"
            drawn.append(ReportFigure(name, caption, plots.sweep_figure(lines, key)))
    return drawn


def _learning(runs: Sequence[Run]) -> list[ReportFigure]:
    logs = {run.path.name: lines for run in runs[-MOST_CURVES:] if (lines := log.entries(run.path))}
    if not logs:
        return []
    shown = "" if len(runs) <= MOST_CURVES else f" The last {MOST_CURVES} of {counted(len(runs), 'run')}."
    return [
        ReportFigure(
            "learning", f"Loss of the epochs, and mAP as it was scored in training.{shown}", plots.learning_figure(logs)
        )
    ]


def _blocks(runs: Sequence[Run], rows: Sequence[Result], labels: Sequence[str] | None) -> list[ReportFigure]:
    """For each block of comparable rows: its best run's curves, and its best against its average pooling."""
    by_path = {run.path: run for run in runs}
    blocks: dict[object, list[Result]] = {}
    for row in rows:
        blocks.setdefault(row.block, []).append(row)
    drawn, truths = [], set()
    for k, members in enumerate(blocks.values()):
        end = "" if len(blocks) == 1 else f"-{k + 1}"
        best = max(members, key=lambda row: row.values["mAP"] or 0.0)
        logits, targets, names = scores_and_truth(by_path[best.paths[0]], labels)
        where = f"{best.dataset} {best.split}"
        run = best.names[0]
        curves = plots.precision_recall_figure(logits, targets, names)
        drawn.append(
            ReportFigure(f"precision-recall{end}", f"Precision and recall of {run} on {where}; dot: p = 0.5", curves)
        )
        baselines = [row for row in members if row.head == "average"]
        if baselines and best.head != "average":
            base = max(baselines, key=lambda row: row.values["mAP"] or 0.0)
            pair = plots.ap_figure(best.average_precision, base.average_precision, (best.called, base.called))
            drawn.append(
                ReportFigure(
                    f"ap-by-label{end}",
                    f"AP by label on {where}: {best.called} ({best.run}) and {base.called} ({base.run})",
                    pair,
                )
            )
        if (best.digest, names) not in truths:
            truths.add((best.digest, names))
            together = plots.cooccurrence_figure(targets, names)
            drawn.append(ReportFigure(f"cooccurrence{end}", f"Which labels occur together in {where}", together))
    return drawn
