"""`mlrec demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options

Seeds = Annotated[str, typer.Option(help="Train each head with these seeds.", metavar="A,B,...")]


def demo(
    out: Annotated[Path, typer.Option(help="Folder of everything the demo makes.")] = Path("demo"),
    seeds: Seeds = "0,1,2",
) -> None:
    """Show the whole way on synthetic scenes, offline: CSRA beside average pooling, and how sure the difference is.

    Example: mlrec demo --seeds 0,1,2,3,4
    """
    from mlrec.workflows import demo as workflow

    numbers = options.whole_numbers(seeds, "--seeds")
    begun = time.monotonic()
    made = workflow.demo(out, seeds=numbers, progress=console.Terminal())
    console.result_tables(made.tables)
    width = max(len(str(path)) for path in made.files)
    console.result("\n".join(f"{path!s:{width}}  {what}" for path, what in made.files.items()))
    console.Terminal().say(f"{time.monotonic() - begun:.0f} s; next: mlrec prepare --help, for your own photographs")
