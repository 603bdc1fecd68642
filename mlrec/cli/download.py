"""`mlrec download`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options


def download(
    name: Annotated[
        str, typer.Argument(help="Name of the dataset: voc2007, voc2012, coco2014 or wider.", metavar="NAME")
    ],
    out: Annotated[Path, typer.Option(help="Folder for downloads.")] = Path("downloads"),
    url_base: Annotated[
        str | None,
        typer.Option(
            help="URL or local folder with copies of the archives [default: the official site].", metavar="URL"
        ),
    ] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep the archives after unpacking.")] = False,
    json: options.Json = False,
) -> None:
    """Download the official files of a dataset.

    Prints the source and license, downloads the archives, checks their sizes and SHA-256 checksums, and unpacks them.
    Run the same command again to resume after a failure. WIDER Attribute can only be downloaded with a browser; for
    this dataset, the command prints instructions.

    Example: mlrec download voc2007 && mlrec prepare voc2007 downloads/voc2007/VOCdevkit
    """
    from mlrec.workflows.data import download as workflow

    folder = workflow.download(
        name, out=out, url_base=url_base, keep_archives=keep_archives, progress=console.Terminal()
    )
    if json:
        console.result_json({"path": str(folder), "next": workflow.next_command(name, folder)})
        return
    console.result_line(f"downloaded to {folder}; next: {workflow.next_command(name, folder)}")
