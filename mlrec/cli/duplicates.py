"""`mlrec duplicates`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import counted
from mlrec.utils.files import check_ending


def duplicates(
    dataset: options.Dataset = None,
    data: options.DataFlag = None,
    min_similarity: Annotated[
        float, typer.Option(help="Minimum correlation between the thumbnails of near-duplicates.", min=0.5, max=1.0)
    ] = 0.97,
    contact_sheet: Annotated[Path | None, typer.Option(help="Output file for a contact sheet (.png).")] = None,
    json: options.Json = False,
) -> None:
    """Find duplicate and near-duplicate images.

    Near-duplicates are re-encoded or resized copies of an image. Pairs with one image in the test split and one in
    another split (leaks) are listed first.

    Example: mlrec duplicates data/voc2007 --contact-sheet twins.png
    """
    from mlrec.reports.figures.contact_sheet import SUFFIXES, write_sheet
    from mlrec.workflows.data import duplicates as workflow

    terminal = console.Terminal()
    if contact_sheet is not None:
        check_ending(contact_sheet, SUFFIXES, "--contact-sheet")
    twins = workflow.find_duplicates(options.one_dataset(dataset, data), alike=min_similarity, progress=terminal)
    if contact_sheet is not None and twins.groups:
        count = write_sheet(workflow.pages(twins), contact_sheet)
        terminal.say(f"contact sheet: {contact_sheet} ({counted(count, 'image')})")
    if json:
        console.result_json(twins.to_dict())
        return
    console.result_tables([workflow.summary(twins)])
