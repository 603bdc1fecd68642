"""`mlrec report`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlrec.reports.render.table import Table
    from mlrec.workflows.report.report import Report


def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders, or folders of them [default: all finished under ./runs].")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="table, md, latex, csv, json or html.", metavar="FORMAT")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file; its ending names the format.")] = None,
    runs_root: options.RunsRoot = Path("runs"),
    table: Annotated[
        int | None,
        typer.Option(help="Show runs beside the rows of the paper's table N, scored as it scores.", metavar="N"),
    ] = None,
    figure: Annotated[int | None, typer.Option(help="5: mAP against λ, as the paper's Figure 5.", metavar="5")] = None,
    study: Annotated[
        Path | None,
        typer.Option(help="Show the sweep in this folder: a row a setting, with the difference to the first."),
    ] = None,
    extra: Annotated[
        Path | None, typer.Option(help="With --table: CSV of further rows (method, mAP in percent), of a test server.")
    ] = None,
    literature: Annotated[
        str | None, typer.Option(help="Show published results beyond the paper on this dataset.", metavar="DATASET")
    ] = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Show 95 % bootstrap intervals of mAP, CF1 and OF1, or of each AP.")
    ] = False,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Test A - B on the same images; several seeds as A1,A2,A3 B1,B2,B3.", metavar="A B"),
    ] = None,
    by_size: Annotated[
        bool,
        typer.Option("--by-size", help="AP by size and number of objects of these runs; the first is the baseline."),
    ] = False,
    by_label: Annotated[bool, typer.Option("--by-label", help="AP of each label, a column a method.")] = False,
    truth: Annotated[
        Path | None, typer.Option(help="With --compare of score files: CSV, manifest or data folder of what is true.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="With --truth: which of its splits.")] = None,
    logits: options.Logits = False,
    probabilities: options.Probabilities = False,
    resamples: Annotated[
        int, typer.Option(help="With --compare and --by-size: how often to draw.", min=100, max=1_000_000)
    ] = 1000,
    plots: Annotated[
        Path | None, typer.Option(help="Draw every figure that these runs can show into this folder, PNG and SVG.")
    ] = None,
    conventions: Annotated[str | None, typer.Option(help="Score stored predictions anew in these conventions.")] = None,
    labels: options.Labels = None,
    each: Annotated[bool, typer.Option("--each", help="A row for each run instead of one over its seeds.")] = False,
) -> None:
    """Show finished runs as a paper-style table: mAP, the All and Top-3 blocks, the best of each group marked.

    Runs that differ in data, conventions, sample count, resolution or extra data stand in blocks of their own; runs
    that differ in the seed alone become one row of means. CSV and JSON hold fractions of 1 in full precision.

    Example: mlrec report --format latex --out table.tex
    """
    from mlrec.reports.render.formats import format_of

    name = format_of(format_, out)
    chosen = options.names(labels)
    terminal = console.Terminal()
    views = {
        "--table": table is not None, "--figure": figure is not None, "--study": study is not None,
        "--literature": literature is not None, "--compare": compare is not None, "--by-size": by_size,
        "--by-label": by_label,
    }  # fmt: skip
    view = _only_one(views)
    _goes_with(view, ("--compare",), {"--truth": truth, "--split": split})
    _goes_with(view, ("--compare",), {"--logits": logits or None, "--probabilities": probabilities or None})
    _goes_with(view, ("", "--table", "--figure", "--study"), {"--plots": plots})
    _goes_with(view, ("", "--table", "--figure", "--study", "--by-label"), {"--intervals": intervals or None})
    _goes_with(view, ("", "--table", "--figure", "--by-label"), {"--each": each or None})
    _goes_with(view, ("", "--table", "--figure", "--study", "--compare", "--by-label"), {"--conventions": conventions})
    from mlrec.workflows.report import report as workflow

    made: Report | None = None
    if literature is not None:
        from mlrec.reports.paper.published import literature as published

        tables = [published(literature)]
    elif compare is not None:
        from mlrec.workflows.report.compare import compare_runs

        a, b = ([Path(path) for path in options.names(side) or ()] for side in compare)
        tables = compare_runs(
            a, b, truth=truth, split=split, kind=options.score_kind(logits, probabilities), conventions=conventions,
            labels=chosen, resamples=resamples, progress=terminal,
        )  # fmt: skip
    elif by_size:
        from mlrec.workflows.report.by_size import size_report

        tables = [size_report(runs or (), root=runs_root, labels=chosen, resamples=resamples)]
    elif by_label:
        tables = workflow.label_report(
            runs or (), root=runs_root, conventions=conventions, labels=chosen, each=each, intervals=intervals
        )
    elif study is not None:
        from mlrec.sweeps.study_tables import study_report

        tables = [study_report(study, labels=chosen, conventions=conventions, intervals=intervals)]
    else:
        made = workflow.report(
            runs or (), root=runs_root, table=table, figure=figure, extra=extra, conventions=conventions,
            labels=chosen, each=each, intervals=intervals,
        )  # fmt: skip
        tables = [made.table]
    _emit(_page(made, chosen, terminal) if made and name == "html" else _drawn(tables, name, out), name, out)
    if plots is not None:
        drawn = made or workflow.report([study] if study else (), conventions=conventions, labels=chosen)
        _plot(drawn, chosen, plots, terminal)


def _only_one(views: Mapping[str, bool]) -> str:
    """What is to be shown, "" for all runs as one table."""
    asked = [flag for flag, given in views.items() if given]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)}: one at a time")
    return asked[0] if asked else ""


def _goes_with(view: str, views: Sequence[str], flags: Mapping[str, object]) -> None:
    for flag, value in flags.items():
        if value is not None and view not in views:
            raise UsageError(f"{flag} does not go with {view}" if view else f"{flag} goes with {', '.join(views)}")


def _page(made: Report, labels: Sequence[str] | None, terminal: console.Terminal) -> str:
    from mlrec.workflows.report.page import report_page

    return report_page(made, labels, progress=terminal)


def _plot(made: Report, labels: Sequence[str] | None, folder: Path, terminal: console.Terminal) -> None:
    from mlrec.workflows.report.figures import figures, write_figures

    for path in write_figures(figures(made.runs, made.rows, labels), folder):
        terminal.say(f"wrote {printable(path)}")


def _drawn(tables: Sequence[Table], name: str, out: Path | None) -> str:
    from mlrec.reports.render.formats import FORMATS
    from mlrec.reports.render.html import page
    from mlrec.reports.render.terminal import render_text

    if name == "html":
        return page(tables[0].title, tables)
    if name == "table" and out is None and sys.stdout.isatty():
        return render_text(tables, styled=True, columns=shutil.get_terminal_size().columns)
    return FORMATS[name](tables)


def _emit(content: str, name: str, out: Path | None) -> None:
    from mlrec.utils.files import write_text

    if out is None:
        console.result(content)
    else:
        write_text(out, content)
        console.Terminal().say(f"wrote {printable(out)} ({name})")
