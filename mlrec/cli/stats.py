"""`mlrec stats`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.cli.report import File, Format, Output, emit, format_name
from mlrec.utils.files import check_ending, write_json


def stats(
    dataset: options.Dataset = None,
    data: options.DataFlag = None,
    ap: Annotated[float, typer.Option(help="AP that the power analysis assumes for every label.")] = 0.8,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Scores for the test split (.npz or .csv file), to use in the power analysis instead of --ap."
        ),
    ] = None,
    logits: options.Logits = False,
    probabilities: options.Probabilities = False,
    objects: Annotated[
        bool, typer.Option("--objects", help="Also print object sizes computed from boxes and masks.")
    ] = False,
    figure: Annotated[Path | None, typer.Option(help="Output file for a figure (.png, .svg or .pdf).")] = None,
    format_: Format = None,
    out: File = None,
    json: options.Json = False,
) -> None:
    """Print statistics of a dataset.

    Prints label counts, distribution shifts between splits, label co-occurrence, and an estimate of how precisely mAP
    can be measured on the dataset.

    Example: mlrec stats data/voc2007 --figure voc2007.png
    """
    from mlrec.reports.dataset_statistics import tables
    from mlrec.workflows.data import stats as workflow

    terminal, name = console.Terminal(), format_name(format_, out, json)
    if figure is not None:
        from mlrec.reports.figures.dataset_figure import SUFFIXES, draw

        check_ending(figure, SUFFIXES, "--figure")
    statistics = workflow.stats(
        options.one_dataset(dataset, data),
        assumed_ap=ap,
        predictions=predictions,
        kind=options.score_kind(logits, probabilities),
        objects=objects,
    )
    if figure is not None:
        draw(statistics, figure)
        terminal.say(f"figure: {figure}")
    if name != "json":
        emit(tables(statistics), Output(name, out, full=False))
    elif out is None:
        console.result_json(statistics.to_dict())
    else:
        write_json(out, statistics.to_dict())
        terminal.say(f"wrote {out} (json)")
