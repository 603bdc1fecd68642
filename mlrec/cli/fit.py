"""`mlrec fit`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from mlrec.cli import console, options


def fit(
    path: Annotated[
        Path, typer.Argument(help="Prepared dataset, or annotations as for mlrec prepare.", show_default=False)
    ],
    minutes: Annotated[float, typer.Option(help="Time for everything, in minutes.")] = 10.0,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if they are elsewhere.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the folder [default: the dataset's, with -fit].")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="The only backbone to try [default: all that can be reached].")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Weights of --backbone: a file, or a package.")] = None,
    img_size: Annotated[
        int | None, typer.Option(help="Side of the input in pixels [default: by the images and the device].")
    ] = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads of torch [default: torch's own].")] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the trainings; the splits do not depend on it.", min=0)] = 0,
    json: options.Json = False,
    full: options.Full = False,
) -> None:
    """Train the best model in a given time.

    Prepares and splits the data where needed, compares heads and backbones on cached features, fine-tunes the most
    promising, tunes thresholds, and scores the test split once. The same command resumes an interrupted fit.

    Example: mlrec fit photos.csv --minutes 20
    """
    from mlrec.reports.runs_table import scored_tables
    from mlrec.workflows.fit import fit as workflow

    flags: dict[str, Any] = {
        "img_size": img_size,
        "workers": workers,
        "device": device,
        "precision": precision,
        "threads": threads,
        "seed": seed,
    }
    result = workflow.fit(
        path,
        images=images,
        minutes=minutes,
        out=out,
        name=name,
        backbone=backbone,
        weights=weights,
        flags={key: value for key, value in flags.items() if value is not None},
        progress=console.Terminal(),
    )
    if json:
        console.result_json(result.to_dict())
        return
    splits = result.state.splits
    tables = scored_tables(result.metrics, title=f"the best model on {splits['test']}", top3=False)
    console.result_tables([workflow.summary(result), *tables], full=full)
    best = shlex.quote(str(result.folder / workflow.BEST))
    console.result_line(f"{result.seconds / 60:.1f} of {minutes:g} minutes")
    console.result_line(f"model          {best}")
    console.result_line(f"report         {result.folder / workflow.PAGE}")
    console.result_line(f"labels to check {result.folder / workflow.ERRORS}")
    console.result_line(f"next: mlrec predict {best} PHOTOS --tuned")
