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
    typer.Argument(help="Run folders, or folders of them [default: all finished runs].", metavar="RUNS..."),
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="table, md, latex, pdf, csv, json, html, xlsx or parquet.", metavar="FORMAT"),
]
File = Annotated[Path | None, typer.Option("--out", help="File to write; its ending names the format.")]
DocumentColumns = Annotated[
    int | None,
    typer.Option(
        "--columns",
        help="Columns of the document that LaTeX tables are for, 1 or 2 [default: 2, where wide tables span both].",
        min=1,
        max=2,
    ),
]
Notes = Annotated[bool, typer.Option("--notes", help="Footnotes in LaTeX and PDF, otherwise comments of the source.")]
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
    paper: Annotated[
        bool, typer.Option("--paper", help="All tables of the paper and Figure 5, with own rows, in the paper's form.")
    ] = False,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Layout of --table: paper (its own form, to paste) or full (all facts) [default: full].",
            metavar="NAME",
        ),
    ] = None,
    columns: DocumentColumns = None,
    notes: Notes = False,
    figure: Annotated[
        int | None, typer.Option(help="Number of a figure of the paper: 5 (mAP against λ).", metavar="N")
    ] = None,
    study: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a sweep: one row per setting, with differences to the first. Of several folders also mean "
            "rank, wins and losses over all."
        ),
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
    plots: Annotated[
        Path | None, typer.Option(help="Folder for all figures of these runs, as PNG, SVG and PDF.")
    ] = None,
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

        folders = [*study, *(runs or ())]  # the shell expands --study runs/heads-* to one option and arguments
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
    """How tables are written.

    Attributes:
        name: Name of the format.
        out: File to write; None for stdout.
        full: Print all columns and footnotes, also on a narrow terminal.
        columns: Columns of the document that LaTeX tables are for.
        notes: Print footnotes in LaTeX.
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
                    raise UsageError(f"{flag} goes with --format latex and pdf")

    @property
    def is_latex(self) -> bool:
        """Whether the format is LaTeX or what is made of it."""
        return self.name in ("latex", "pdf")


def format_name(format_: str | None, out: Path | None, json: bool) -> str:
    """Name of the output format; --json is short for --format json."""
    from mlrec.reports.render.formats import format_of

    if json and format_ not in (None, "json"):
        raise UsageError(f"--json and --format {format_}: give one of them")
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


def emit(tables: Sequence[Table], output: Output, panels: Sequence[CurvePanel] = ()) -> None:
    """Print tables in a format, or write them to a file.

    Args:
        tables: Tables.
        output: Format and file.
        panels: Panels of Figure 5, which are drawn in LaTeX only.
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
            raise UsageError("--format pdf: name the file with --out FILE.pdf")
        console.result("\n".join(filter(None, [text, figure])))
    elif output.name == "pdf":
        write_pdf(text, figure, output.out)
        _wrote(output.out, output.name)
    else:
        tex, *bib = write_latex(text, figure, output.out)
        _wrote(tex, "latex" if not (text and figure) else "latex, a whole document")
        for path in bib:
            _wrote(path, "bibtex, the systems that it cites")


def _only_one(views: Mapping[str, bool]) -> str:
    """Flag of what is printed, "" for all runs as one table."""
    given = [flag for flag, is_given in views.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: one at a time")
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
