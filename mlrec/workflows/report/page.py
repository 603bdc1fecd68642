"""`mlrec report --format html`: tables, figures, galleries, settings and environment of the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from mlrec.config import PATHS
from mlrec.reports.by_label import label_tables
from mlrec.reports.figures import plots
from mlrec.reports.render.html import Facts, Picture, SummaryCard, page
from mlrec.reports.render.table import percent, shown
from mlrec.reports.results import Result
from mlrec.reports.settings import setting_text
from mlrec.run_folders.record import Run, RunRecord, lineage_of
from mlrec.utils.errors import counted
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.report.figures import best_of, figures
from mlrec.workflows.report.galleries import galleries
from mlrec.workflows.report.report import Report

MOST_BLOCKS = 3  # blocks of comparable results in the summary
MOST_RUNS = 50  # the settings of further runs are in their folders only


def report_page(report: Report, labels: Sequence[str] | None = None, *, progress: Progress = SILENT) -> str:
    """Return a report as an HTML page.

    Heat maps are computed by running the best model for each scored split on the images shown, if the model and the
    images are available.

    Args:
        report: Report to render.
        labels: Labels of the report; by default all.
        progress: Progress display.
    """
    drawn = figures(report.runs, report.rows, labels)
    pictures = [Picture(plots.image(one.figure, "svg"), "image/svg+xml", one.caption, one.folded) for one in drawn]
    tables = [report.table, *label_tables(report.rows)]
    settings = [_facts(run) for run in report.runs[:MOST_RUNS]]
    shown_images = galleries(report, labels, progress=progress)
    return page(title(report), tables, pictures, shown_images, settings, list(summary(report.rows)))


def title(report: Report) -> str:
    """Return the page title: the scored data, and the date on which the last run finished."""
    data = ", ".join(dict.fromkeys(f"{row.dataset} {row.split}" for row in report.rows))
    day = max((run.record.finished or "" for run in report.runs), default="")[:10]
    return ", ".join(part for part in (data or "mlrec report", day) if part)


def summary(rows: Sequence[Result]) -> Iterator[SummaryCard]:
    """Yield the cards of a page: the best result in each of the first three groups, and the number of runs."""
    blocks: dict[object, list[Result]] = {}
    for row in rows:
        blocks.setdefault(row.block, []).append(row)
    for members in list(blocks.values())[:MOST_BLOCKS]:
        best, baselines = best_of(members), [row for row in members if row.head == "average"]
        data = f"{best.dataset} {best.split}"
        yield SummaryCard(f"highest mAP on {data}", percent(best.values["mAP"]), _method(best))
        if baselines and best.head != "average":
            gain = (best.values["mAP"] or 0.0) - (best_of(baselines).values["mAP"] or 0.0)
            yield SummaryCard("gain over average pooling", shown(gain, "points"), f"points of mAP on {data}")
        for key, name in (("CF1", "mean over labels"), ("OF1", "all labels together")):
            yield SummaryCard(key, percent(best.values[key]), f"F1 at p = 0.5, {name}")
        yield SummaryCard("samples", f"{best.samples:,}", f"{counted(len(best.labels), 'label')} of {data}")
    runs = sum(len(row.paths) for row in rows)
    yield SummaryCard("runs", f"{runs:,}", f"{counted(len(rows), 'setting')}")


def _method(result: Result) -> str:
    text = result.called
    if len(result.paths) > 1:
        text += f", mean of {counted(len(result.paths), 'seed')}"
    if result.spread is not None:
        text += f", sd {percent(result.spread)}"
    return text


def _facts(run: Run) -> Facts:
    """Return the command line, settings, lineage and environment of a run."""
    record = run.record
    values = {"folder": str(run.path), "command": _command(record), "finished": record.finished or ""}
    values["recipe"] = record.recipe or ""
    for key, value in record.config.items():
        if value is None:
            continue
        values[key] = setting_text(key, value) if key in PATHS else str(value)
        source = record.sources.get(key, "default")
        if source != "default":
            values[key] += f" ({source})"
    lineage = lineage_of(record)
    trainings = [f"{training.dataset} {training.split}" for training in lineage.trainings]
    values["lineage"] = ", then ".join([lineage.label, *trainings])
    model = {key: value for key, value in record.model.items() if key != "weights"}  # in the lineage, without its path
    for part, facts in (("model", model), ("environment", record.environment), ("seconds", record.seconds)):
        values |= {f"{part}: {key}": str(value) for key, value in facts.items()}
    values |= {f"warning {k}": text for k, text in enumerate(record.warnings, start=1)}
    return Facts(run.name, {key: value for key, value in values.items() if value})


def _command(record: RunRecord) -> str:
    """Return the command line of a run; only the file name is shown for weights and label-vector files."""
    words = []
    for word in record.command:
        before, equals, value = word.rpartition("=")
        if PurePath(value).is_absolute() and value in {record.config.get(key) for key in PATHS}:
            word = f"{before}{equals}{PurePath(value).name}"
        words.append(word)
    return " ".join(words)
