"""`mlrec doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from mlrec.cli import console, options
from mlrec.cli.train import File, Recipe


@options.with_config_flags
def doctor(
    flags: dict[str, Any],
    recipe: Recipe = None,
    config: File = None,
    settings: options.Settings = None,
    out: options.Out = Path("runs"),
    json: options.Json = False,
) -> None:
    """Check that this machine can train with the given settings.

    Checks the packages, device, disk, data and weights, and trains for a few steps. The configuration flags are the
    same as for mlrec train, and splits, device and weights are selected in the same way. Weights on the Hugging Face
    Hub are looked up but not downloaded. All temporary files are removed. The exit code is 1 if mlrec train would fail,
    and 0 otherwise.

    Example: mlrec doctor --data data/voc2007
    """
    from mlrec.reports.render.table import Column, Row, Table
    from mlrec.workflows import doctor as workflow

    flags = options.with_settings(settings, flags)
    report = workflow.doctor(flags=flags, file=config, recipe=recipe, out=out, progress=console.Terminal())
    if json:
        console.result_json(report.to_dict())
    else:
        columns = (Column("name", "Check", identity=True), Column("verdict", ""), Column("found", "Found"))
        rows = tuple(Row((check.name, check.verdict, check.found)) for check in report.checks)
        todo = tuple(f"{check.name}: {check.advice}" for check in report.checks if check.advice)
        console.result_tables([Table(report.in_words(), columns, rows, todo)])
    if report.verdict == "error":
        raise typer.Exit(1)
