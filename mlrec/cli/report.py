"""`mlrec report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlrec.reports.paper.figure5 import CurvePanel
    from mlrec.reports.render.table import Table
    from mlrec.workflows.report.report import Report

Runs = Annotated[
    list[Path] | None,
    typer.Argument(help="Run folders, or their parent folders [default: all finished runs].", metavar="RUNS..."),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", help="Output format: table, md, latex, pdf, csv, json, html, xlsx or parquet.", metavar="FORMAT"
    ),
]
File = Annotated[Path | None, typer.Option("--out", help="Output file; the extension determines the format.")]
DocumentColumns = Annotated[
    int | None,
    typer.Option(
        "--columns",
        help="Number of columns in the LaTeX document, 1 or 2 [default: 2; wide tables span both].",
        min=1,
        max=2,
    ),
]
Notes = Annotated[
    bool,
    typer.Option("--notes", help="Typeset the footnotes of LaTeX and PDF output instead of writing them as comments."),
]
PerRun = Annotated[bool, typer.Option("--per-run", help="Print one row per run instead of means over seeds.")]


def report(
    runs: Runs = None,
    format_: Format = None,
    out: File = None,
    runs_root: options.RunsRoot = Path("runs"),
    table: Annotated[
        int | None,
        typer.Option(help="Table of the paper to print together with the runs.", metavar="N"),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper", help="Print all eight tables and Figure 5 of the paper, with your runs, in the paper's layout."
        ),
    ] = False,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Layout of --table: paper (the paper's columns) or full (all columns) [default: full].",
            metavar="NAME",
        ),
    ] = None,
    columns: DocumentColumns = None,
    notes: Notes = False,
    figure: Annotated[
        int | None,
        typer.Option(
            help="Figure of the paper to reproduce from the runs; only Figure 5 (mAP against λ) is available.",
            metavar="N",
        ),
    ] = None,
    study: Annotated[
        list[Path] | None,
        typer.Option(
            help="Sweep folder to report: one row per setting, with differences from the first row. Repeat the flag to "
            "add mean ranks, wins and losses over several sweeps."
        ),
    ] = None,
    literature: Annotated[
        str | None, typer.Option(help="Dataset for which to print published results.", metavar="DATASET")
    ] = None,
    extra_rows: Annotated[
        Path | None,
        typer.Option(
            help="CSV file with additional rows for --table, such as results from an evaluation server; required "
            "columns: method and mAP (in percent)."
        ),
    ] = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Add 95% bootstrap confidence intervals for mAP, CF1 and OF1.")
    ] = False,
    plots: Annotated[
        Path | None, typer.Option(help="Output folder for figures of the runs, as PNG, SVG and PDF.")
    ] = None,
    conventions: Annotated[
        str | None, typer.Option(help="Scoring conventions [default: the conventions of the runs].", metavar="NAME")
    ] = None,
    labels: options.Labels = None,
    per_run: PerRun = False,
    json: options.Json = False,
    full: options.Full = False,
) -> None:
    """Print finished runs as a table.

    The best value in each group is marked. Runs that differ in data, conventions, resolution or extra data are in
    separate groups. Runs that differ only in the seed are averaged in one row. CSV and JSON output contains fractions
    in full precision instead of percentages.

    Example: mlrec report --format latex --out table.tex
    """
    output = Output(format_name(format_, out, json), out, full, columns, notes)
    view = _only_one(
        {
            "--table": table is not None,
            "--figure": figure is not None,
            "--study": bool(study),
            "--literature": literature is not None,
            "--paper": paper,
        }
    )
    views = ("", "--table", "--figure", "--study")
    goes_with(view, views, {"--plots": plots, "--intervals": intervals or None, "--conventions": conventions})
    goes_with(view, ("", "--table", "--figure"), {"--per-run": per_run or None})
    goes_with(view, views, {"--labels": labels})
    goes_with(view, ("--table",), {"--layout": layout})
    from mlrec.workflows.report import report as workflow

    chosen = options.names(labels)
    if paper:
        goes_with(view, ("--table",), {"--extra-rows": extra_rows})
        tables, panels = workflow.paper_report(runs or (), root=runs_root)
        emit(tables, output, panels)
        return
    if literature is not None:
        from mlrec.reports.paper.published import literature as published

        emit([published(literature)], output)
        return
    if study:
        from mlrec.sweeps.study_ranks import study_reports

        folders = [
            *study,
            *(runs or ()),
        ]  # the shell expands --study runs/heads-* to one option value and further arguments
        emit(study_reports(folders, labels=chosen, conventions=conventions, intervals=intervals), output)
        if plots is not None:
            _plot(workflow.report(folders, conventions=conventions, labels=chosen), chosen, plots)
        return
    made = workflow.report(
        runs or (),
        root=runs_root,
        table=table,
        figure=figure,
        extra=extra_rows,
        conventions=conventions,
        labels=chosen,
        each=per_run,
        intervals=intervals,
        layout=layout,
    )
    if output.name == "html":
        _write(_page(made, chosen), output)
    elif figure is not None and output.is_latex:
        from mlrec.reports.paper.figure5 import figure5_panels

        emit([], output, figure5_panels(made.series))
    else:
        emit([made.table], output)
    if plots is not None:
        _plot(made, chosen, plots)


@dataclass(frozen=True)
class Output:
    """Output format and file of `mlrec report`.

    Attributes:
        name: Name of the format.
        out: File to write; None for stdout.
        full: Whether to print all columns and footnotes, even on a narrow terminal.
        columns: Number of text columns in the LaTeX document, 1 or 2; None for the default, 2.
        notes: Whether to typeset footnotes in LaTeX instead of writing them as comments.

    Raises:
        UsageError: `columns` or `notes` is set, but the format is neither LaTeX nor PDF.
    """

    name: str
    out: Path | None
    full: bool
    columns: int | None = None
    notes: bool = False

    def __post_init__(self) -> None:
        if not self.is_latex:
            for flag, is_given in (("--columns", self.columns is not None), ("--notes", self.notes)):
                if is_given:
                    raise UsageError(f"{flag} requires --format latex or --format pdf; add one of them, or omit {flag}")

    @property
    def is_latex(self) -> bool:
        """Whether the format is LaTeX or PDF."""
        return self.name in ("latex", "pdf")


def format_name(format_: str | None, out: Path | None, json: bool) -> str:
    """Return the name of the output format; --json is short for --format json."""
    from mlrec.reports.render.formats import format_of

    if json and format_ not in (None, "json"):
        raise UsageError(f"--json cannot be used with --format {format_}; omit one of them")
    return format_of("json" if json else format_, out)


def goes_with(view: str, views: Sequence[str], flags: Mapping[str, object]) -> None:
    """Raise UsageError if a flag is set that has no effect in the selected view.

    Args:
        view: Flag that selects the current view; "" for the default view.
        views: Views in which the flags have an effect.
        flags: Mapping from the name of a flag to its value, or to None if the flag is not set.
    """
    for flag, value in flags.items():
        if value is not None and view not in views:
            reason = f"cannot be used with {view}" if view else f"requires {' or '.join(filter(None, views))}"
            raise UsageError(f"{flag} {reason}")


def emit(tables: Sequence[Table], output: Output, panels: Sequence[CurvePanel] = ()) -> None:
    """Print tables in the selected format, or write them to a file.

    Args:
        tables: Tables to print or write.
        output: Output format and file.
        panels: Panels of Figure 5 in the paper. They are drawn only if the format is LaTeX or PDF.
    """
    if output.is_latex:
        _emit_latex(tables, output, panels)
        return
    if output.name == "table" and output.out is None:
        console.result_tables(tables, full=output.full)
        return
    from mlrec.reports.render.formats import FORMATS, write_tables
    from mlrec.reports.render.html import page

    if output.out is not None and output.name in ("xlsx", "parquet"):
        write_tables(tables, output.out)
        _wrote(output.out, output.name)
    elif output.name == "html":
        title = "mlrec report"
        if len(tables) == 1:
            title = tables[0].title
        _write(page(title, tables), output)
    else:
        _write(FORMATS[output.name](tables), output)


def _emit_latex(tables: Sequence[Table], output: Output, panels: Sequence[CurvePanel]) -> None:
    from mlrec.reports.paper.figure5_latex import lambda_figure
    from mlrec.reports.render.latex import latex
    from mlrec.workflows.report.latex_files import write_latex, write_pdf

    text = figure = ""
    if tables:
        text = latex(tables, columns=output.columns, notes=output.notes)
    if panels:
        figure = lambda_figure(panels)
    if output.out is None:
        if output.name == "pdf":
            raise UsageError("--format pdf requires an output file; add --out FILE.pdf")
        console.result("\n".join(filter(None, [text, figure])))
    elif output.name == "pdf":
        write_pdf(text, figure, output.out)
        _wrote(output.out, output.name)
    else:
        tex, *bib = write_latex(text, figure, output.out)
        _wrote(tex, "latex" if not (text and figure) else "latex, a complete document")
        for path in bib:
            _wrote(path, "bibtex, the references cited in the table")


def _only_one(views: Mapping[str, bool]) -> str:
    """Return the flag that selects the view; "" for the default view, which is a table of all runs."""
    given = [flag for flag, is_given in views.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} cannot be used together; choose one of them")
    if given:
        return given[0]
    return ""


def _page(made: Report, labels: Sequence[str] | None) -> str:
    from mlrec.workflows.report.page import report_page

    return report_page(made, labels, progress=console.Terminal())


def _plot(made: Report, labels: Sequence[str] | None, folder: Path) -> None:
    from mlrec.workflows.report.figures import figures, write_figures

    for path in write_figures(figures(made.runs, made.rows, labels), folder):
        console.Terminal().say(f"wrote {path}")


def _write(content: str, output: Output) -> None:
    from mlrec.utils.files import write_text

    if output.out is None:
        console.result(content)
    else:
        write_text(output.out, content)
        _wrote(output.out, output.name)


def _wrote(path: Path, what: str) -> None:
    console.Terminal().say(f"wrote {path} ({what})")
