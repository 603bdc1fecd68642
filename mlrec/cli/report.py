"""`mlrec report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlrec.reports.render.table import Table
    from mlrec.workflows.report.report import Report

Runs = Annotated[
    list[Path] | None,
    typer.Argument(help="Run folders, or folders of them [default: all finished runs].", metavar="RUNS..."),
]
Format = Annotated[
    str | None, typer.Option("--format", help="table, md, latex, csv, json, html, xlsx or parquet.", metavar="FORMAT")
]
File = Annotated[Path | None, typer.Option("--out", help="File to write; its ending names the format.")]
PerRun = Annotated[bool, typer.Option("--per-run", help="One row per run instead of means over seeds.")]


def report(
    runs: Runs = None,
    format_: Format = None,
    out: File = None,
    runs_root: options.RunsRoot = Path("runs"),
    table: Annotated[
        int | None,
        typer.Option(help="Number of a table of the paper, whose rows are printed next to the runs.", metavar="N"),
    ] = None,
    figure: Annotated[
        int | None, typer.Option(help="Number of a figure of the paper: 5 (mAP against λ).", metavar="N")
    ] = None,
    study: Annotated[
        Path | None, typer.Option(help="Folder of a sweep: one row per setting, with differences to the first.")
    ] = None,
    literature: Annotated[
        str | None, typer.Option(help="Dataset whose published results are printed.", metavar="DATASET")
    ] = None,
    extra_rows: Annotated[
        Path | None,
        typer.Option(help="CSV of further rows for --table (method, mAP in percent), as from a test server."),
    ] = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="95 % bootstrap intervals of mAP, CF1 and OF1.")
    ] = False,
    plots: Annotated[Path | None, typer.Option(help="Folder for all figures of these runs, as PNG and SVG.")] = None,
    conventions: Annotated[
        str | None, typer.Option(help="Scoring conventions in which stored predictions are scored.", metavar="NAME")
    ] = None,
    labels: options.Labels = None,
    per_run: PerRun = False,
    json: options.Json = False,
    full: options.Full = False,
) -> None:
    """Print finished runs as a table.

    The best of each group is marked. Runs that differ in data, conventions, resolution or extra data are in groups of
    their own. Runs that differ only in the seed are one row of means. CSV and JSON hold fractions in full precision.

    Example: mlrec report --format latex --out table.tex
    """
    name = format_name(format_, out, json)
    view = _only_one({
        "--table": table is not None, "--figure": figure is not None, "--study": study is not None,
        "--literature": literature is not None,
    })  # fmt: skip
    views = ("", "--table", "--figure", "--study")
    goes_with(view, views, {"--plots": plots, "--intervals": intervals or None, "--conventions": conventions})
    goes_with(view, ("", "--table", "--figure"), {"--per-run": per_run or None})
    from mlrec.workflows.report import report as workflow

    chosen = options.names(labels)
    if literature is not None:
        from mlrec.reports.paper.published import literature as published

        emit([published(literature)], name, out, full)
        return
    if study is not None:
        from mlrec.sweeps.study_tables import study_report

        emit([study_report(study, labels=chosen, conventions=conventions, intervals=intervals)], name, out, full)
        if plots is not None:
            _plot(workflow.report([study], conventions=conventions, labels=chosen), chosen, plots)
        return
    made = workflow.report(
        runs or (), root=runs_root, table=table, figure=figure, extra=extra_rows, conventions=conventions,
        labels=chosen, each=per_run, intervals=intervals,
    )  # fmt: skip
    if name == "html":
        _write(_page(made, chosen), name, out)
    else:
        emit([made.table], name, out, full)
    if plots is not None:
        _plot(made, chosen, plots)


def format_name(format_: str | None, out: Path | None, json: bool) -> str:
    """Name of the output format; --json is short for --format json."""
    from mlrec.reports.render.formats import format_of

    if json and format_ not in (None, "json"):
        raise UsageError(f"--json and --format {printable(format_)}: give one of them")
    return format_of("json" if json else format_, out)


def goes_with(view: str, views: Sequence[str], flags: Mapping[str, object]) -> None:
    """Refuse flags that would have no effect.

    Args:
        view: Flag of what is printed, "" for the default.
        views: Views in which the flags have an effect.
        flags: Flags and their values; None if not given.
    """
    for flag, value in flags.items():
        if value is not None and view not in views:
            raise UsageError(f"{flag} does not go with {view}" if view else f"{flag} goes with {', '.join(views)}")


def emit(tables: Sequence[Table], name: str, out: Path | None, full: bool) -> None:
    """Print tables in a format, or write them to `out`."""
    if name == "table" and out is None:
        console.result_tables(tables, full=full)
        return
    from mlrec.reports.render.formats import FORMATS, write_tables
    from mlrec.reports.render.html import page

    if out is not None and name in ("xlsx", "parquet"):
        write_tables(tables, out)
        console.Terminal().say(f"wrote {printable(out)} ({name})")
        return
    _write(page(tables[0].title, tables) if name == "html" else FORMATS[name](tables), name, out)


def _only_one(views: Mapping[str, bool]) -> str:
    """Flag of what is printed, "" for all runs as one table."""
    given = [flag for flag, is_given in views.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: one at a time")
    return given[0] if given else ""


def _page(made: Report, labels: Sequence[str] | None) -> str:
    from mlrec.workflows.report.page import report_page

    return report_page(made, labels, progress=console.Terminal())


def _plot(made: Report, labels: Sequence[str] | None, folder: Path) -> None:
    from mlrec.workflows.report.figures import figures, write_figures

    for path in write_figures(figures(made.runs, made.rows, labels), folder):
        console.Terminal().say(f"wrote {printable(path)}")


def _write(content: str, name: str, out: Path | None) -> None:
    from mlrec.utils.files import write_text

    if out is None:
        console.result(content)
    else:
        write_text(out, content)
        console.Terminal().say(f"wrote {printable(out)} ({name})")
