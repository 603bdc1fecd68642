"""`mlrec split`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options


def split(
    data: Annotated[
        Path | None, typer.Argument(help="Folder of a prepared dataset [default: the one prepared last].")
    ] = None,
    val: Annotated[float, typer.Option(help="Share of the samples that is held out.")] = 0.2,
    folds: Annotated[int | None, typer.Option(help="Make so many folds instead: fold0-train, fold0-val, ...")] = None,
    group: Annotated[
        str | None, typer.Option(help="Column whose equal values stay together: a patient, a film.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV of that column [default: the one the dataset was prepared from].")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="The split to divide [default: trainval, else all, else train].")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Put before the names of the new splits.")] = "",
    no_duplicates: Annotated[
        bool, typer.Option("--no-duplicates", help="Do not look at the images for the same photograph twice.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another seed, another division.", min=0, max=2**32 - 1)] = 0,
    json: options.Json = False,
) -> None:
    """Hold out a validation split, or make folds, in which every label keeps its prevalence; test is never touched.

    Adds train and val (or the folds) to the dataset. Persons of one image, equal values of --group, and images of the
    same photograph stay together.

    Example: mlrec split data/pets --val 0.2 --group patient
    """
    from mlrec.workflows.data import split as workflow
    from mlrec.workflows.next_steps import train_command

    made = workflow.split(
        data,
        val=val,
        folds=folds,
        group=group,
        groups_file=groups,
        pool=from_,
        prefix=prefix,
        near_duplicates=not no_duplicates,
        seed=seed,
        progress=console.Terminal(),
    )
    if json:
        console.result_json(made.to_dict())
        return
    console.result_tables([workflow.summary(made)])
    train, held_out = list(made.sizes)[:2]  # of several folds the first
    console.result(f"written to {made.dataset.path}; next: {train_command(made.dataset, train, held_out)}")
