"""`mlrec duplicates`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import counted
from mlrec.utils.files import check_ending


def duplicates(
    data: Annotated[
        Path | None, typer.Argument(help="Folder of a prepared dataset [default: the one prepared last].")
    ] = None,
    alike: Annotated[
        float, typer.Option(help="Correlation of thumbnails from which on two images are the same.", min=0.5, max=1.0)
    ] = 0.97,
    sheet: Annotated[Path | None, typer.Option(help="Draw the groups on a contact sheet: a .png file.")] = None,
    json: options.Json = False,
) -> None:
    """Find photographs that stand twice: the same file, or the same picture re-encoded or resized; leaks first.

    Example: mlrec duplicates data/voc2007 --sheet twins.png
    """
    from mlrec.reports.figures.contact_sheet import SUFFIXES, write_sheet
    from mlrec.workflows.data import duplicates as workflow

    terminal = console.Terminal()
    if sheet is not None:
        check_ending(sheet, SUFFIXES, "--sheet")
    twins = workflow.find_duplicates(data, alike=alike, progress=terminal)
    if sheet is not None and twins.groups:
        count = write_sheet(workflow.pages(twins), sheet)
        terminal.say(f"contact sheet: {sheet} ({counted(count, 'image')})")
    if json:
        console.result_json(twins.to_dict())
        return
    console.result_tables([workflow.summary(twins)])
