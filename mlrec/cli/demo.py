"""`mlrec demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options


def demo(
    out: Annotated[Path, typer.Option(help="Output folder for all demo files.")] = Path("demo"),
    seeds: options.Seeds = "0,1,2",
    json: options.Json = False,
    full: options.Full = False,
) -> None:
    """Run a demo that compares CSRA with average pooling.

    Trains a CSRA head and an average-pooling head on synthetic scenes, without network access, and prints the
    difference in mAP with a confidence interval.

    Example: mlrec demo --seeds 0,1,2,3,4
    """
    from mlrec.workflows import demo as workflow

    numbers = options.whole_numbers(seeds, "--seeds")
    begun = time.monotonic()
    result = workflow.demo(out, seeds=numbers, progress=console.Terminal())
    if json:
        files = {str(path): text for path, text in result.files.items()}
        console.result_json({"tables": console.tables_as_data(result.tables), "files": files})
        return
    console.result_tables(result.tables, full=full)
    width = max(len(str(path)) for path in result.files)
    for path, text in result.files.items():
        console.result_line(f"{path!s:{width}}  {text}")
    console.Terminal().say(
        f"finished in {time.monotonic() - begun:.0f} s; to use your own images, see mlrec prepare --help"
    )
