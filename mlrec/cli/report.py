"""`mlrec report`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlrec.cli import console, options
from mlrec.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlrec.reports.table import Table


def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders, or folders of them [default: all finished under ./runs].")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="table, md, latex, csv or json.", metavar="FORMAT")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file; its ending names the format.")] = None,
    runs_root: Annotated[Path, typer.Option(help="Where runs lie when none is named.")] = Path("runs"),
    conventions: Annotated[str | None, typer.Option(help="Score stored predictions anew in these conventions.")] = None,
    labels: options.Labels = None,
    each: Annotated[bool, typer.Option("--each", help="A row for each run instead of one over its seeds.")] = False,
) -> None:
    """Show finished runs as a paper-style table: mAP, the All and Top-3 blocks, the best of each group marked.

    Runs that differ in data, conventions, sample count, resolution or extra data stand in blocks of their own; runs
    that differ in the seed alone become one row of means. CSV and JSON hold fractions of 1 in full precision.

    Example: mlrec report --format latex --out table.tex
    """
    from mlrec.workflows import report as workflow

    name = _format(format_, out)
    tables = workflow.report(
        runs or (), root=runs_root, conventions=conventions, labels=options.names(labels), each=each
    )
    _emit(tables, name, out)


def _format(asked: str | None, out: Path | None) -> str:
    from mlrec.reports.formats import FORMATS, SUFFIXES

    name = asked or (SUFFIXES.get(out.suffix.lower(), "table") if out else "table")
    if name not in FORMATS:
        raise UsageError(f"--format {printable(name)}: choose one of {', '.join(FORMATS)}")
    return name


def _emit(tables: Sequence[Table], name: str, out: Path | None) -> None:
    from mlrec.files import write_text
    from mlrec.reports.formats import FORMATS
    from mlrec.reports.text import text

    if out is not None:
        write_text(out, FORMATS[name](tables))
        console.Terminal().say(f"wrote {printable(out)}")
    elif name == "table":
        seen = sys.stdout.isatty()
        console.result(text(tables, styled=seen, columns=shutil.get_terminal_size().columns if seen else None))
    else:
        console.result(FORMATS[name](tables))
