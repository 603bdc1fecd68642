"""`mlrec doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options


def doctor(
    data: options.Data = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(help="Loader processes to start [default: one a core beside a GPU, else none].", min=0),
    ] = None,
    out: options.Out = Path("runs"),
    json: options.Json = False,
) -> None:
    """Say whether one can train here, and what to do if not: packages, device, disk, data, and a short real training.

    Nothing is left behind. The exit code is 1 where something is broken, 0 otherwise.

    Example: mlrec doctor --data data/voc2007
    """
    from mlrec.reports.table import Column, Row, Table
    from mlrec.workflows import doctor as workflow

    found = workflow.doctor(data, device=device, workers=workers, out=out, progress=console.Terminal())
    if json:
        console.result_json(found.to_dict())
    else:
        columns = (Column("name", "Check"), Column("verdict", ""), Column("found", "Found"))
        rows = tuple(Row((check.name, check.verdict, check.found)) for check in found.checks)
        todo = tuple(f"{check.name}: {check.advice}" for check in found.checks if check.advice)
        console.result_tables([Table(found.in_words(), columns, rows, todo)])
    if found.verdict == "error":
        raise typer.Exit(1)
