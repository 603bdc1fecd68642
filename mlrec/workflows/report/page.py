"""`mlrec report --format html`: tables, figures, galleries, settings and environment of the runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from mlrec.config import PATHS
from mlrec.reports.by_label import label_tables
from mlrec.reports.figures import plots
from mlrec.reports.render.html import Facts, Picture, page
from mlrec.reports.settings import setting_text
from mlrec.run_folders.ancestry import lineage_of
from mlrec.run_folders.record import Run, RunRecord
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.report.figures import figures
from mlrec.workflows.report.galleries import galleries
from mlrec.workflows.report.report import Report

MOST_RUNS = 50  # the settings of further runs are in their folders only


def report_page(report: Report, labels: Sequence[str] | None = None, *, progress: Progress = SILENT) -> str:
    """Return the HTML page of a report.

    Heat maps are computed by running the best model of each dataset on the images that are shown.

    Args:
        report: Report.
        labels: Labels of the report; by default all.
        progress: Receives progress bars and notes.
    """
    drawn = figures(report.runs, report.rows, labels)
    pictures = [Picture(plots.image(one.figure, "svg"), "image/svg+xml", one.caption) for one in drawn]
    tables = [report.table, *label_tables(report.rows)]
    settings = [_facts(run) for run in report.runs[:MOST_RUNS]]
    return page("mlrec report", tables, pictures, galleries(report, labels, progress=progress), settings)


def _facts(run: Run) -> Facts:
    """Return command line, settings, lineage and environment of a run."""
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
    """The command as typed; files of weights and label vectors are named without the folders of a machine."""
    words = []
    for word in record.command:
        before, equals, value = word.rpartition("=")
        own = PurePath(value).is_absolute() and value in {record.config.get(key) for key in PATHS}
        words.append(f"{before}{equals}{PurePath(value).name}" if own else word)
    return " ".join(words)
