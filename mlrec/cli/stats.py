"""`mlrec stats`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.utils.files import check_ending


def stats(
    data: Annotated[
        Path | None, typer.Argument(help="Folder of a prepared dataset [default: the one prepared last].")
    ] = None,
    ap: Annotated[float, typer.Option(help="AP of every label that the power line assumes.")] = 0.8,
    predictions: Annotated[
        Path | None, typer.Option(help="Scores of the tested split (.npz or .csv): the power line measures instead.")
    ] = None,
    logits: options.Logits = False,
    probabilities: options.Probabilities = False,
    objects: Annotated[bool, typer.Option("--objects", help="Read boxes and masks again for object sizes.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw it, too: a .png, .svg or .pdf file.")] = None,
    json: options.Json = False,
) -> None:
    """Look at a dataset: labels, shifts between splits, what comes together, and how much a test on it can tell.

    Example: mlrec stats data/voc2007 --picture voc2007.png
    """
    from mlrec.reports.dataset_statistics import tables
    from mlrec.workflows.data import stats as workflow

    terminal = console.Terminal()
    if picture is not None:
        from mlrec.reports.figures.dataset_figure import SUFFIXES, draw

        check_ending(picture, SUFFIXES, "--picture")
    found = workflow.stats(
        data,
        assumed_ap=ap,
        predictions=predictions,
        kind=options.score_kind(logits, probabilities),
        objects=objects,
        progress=terminal,
    )
    if picture is not None:
        draw(found, picture)
        terminal.say(f"picture: {picture}")
    if json:
        console.result_json(found.to_dict())
        return
    console.result_tables(tables(found))
