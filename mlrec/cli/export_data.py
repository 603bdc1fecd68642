"""`mlrec export-data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlrec.cli import console, options


def export_data(
    data: Annotated[
        Path | None, typer.Argument(help="Folder of a prepared dataset [default: the one prepared last].")
    ] = None,
    format_: Annotated[
        Literal["csv", "coco", "imagefolder", "labelstudio", "fiftyone"],
        typer.Option("--format", help="Format: CSV, COCO, Hugging Face imagefolder, Label Studio or FiftyOne."),
    ] = "csv",
    out: Annotated[Path | None, typer.Option(help="New folder [default: NAME-FORMAT].")] = None,
    splits: Annotated[str | None, typer.Option(help="These splits only.", metavar="A,B,...")] = None,
    unknown: Annotated[
        Literal["keep", "negative"], typer.Option(help="Write unknown labels as they are, or as negative ones.")
    ] = "keep",
) -> None:
    """Write a prepared dataset for other tools, and read it back to be sure that nothing has changed.

    Example: mlrec export-data data/voc2007 --format csv
    """
    from mlrec.workflows.data.export_data import export_data as export

    target, command = export(
        data, format_=format_, out=out, splits=options.names(splits), unknown_as_negative=unknown == "negative"
    )
    console.result(f"written to {target}; back again with:")
    console.result(f"  {command}")
