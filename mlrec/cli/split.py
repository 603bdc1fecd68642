"""`mlrec split`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import UsageError


def split(
    dataset: options.Dataset = None,
    data: options.DataFlag = None,
    val: Annotated[float, typer.Option(help="Fraction of samples to hold out for validation.")] = 0.2,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Number of folds to create instead of train and val; the splits are named fold0-train, fold0-val, ..."
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Column with the group of each sample, such as a patient ID; each group stays in one split."),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(help="CSV file with the --group column [default: the source CSV file of the dataset]."),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="Split to divide [default: trainval if it exists, otherwise all or train]."),
    ] = None,
    keep_labels: Annotated[
        str | None,
        typer.Option(
            help="Fractions of annotations to keep; each fraction adds a copy of the training split in which all other "
            "annotations are unknown.",
            metavar="A,B",
        ),
    ] = None,
    single_positive: Annotated[
        bool,
        typer.Option(
            "--single-positive",
            help="Add a copy of the training split in which only one positive annotation per sample is known.",
        ),
    ] = False,
    prefix: Annotated[str, typer.Option(help="Prefix for the new split names.")] = "",
    no_duplicates: Annotated[
        bool, typer.Option("--no-duplicates", help="Skip the search for near-duplicate images.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Random seed.", min=0, max=2**32 - 1)] = 0,
    json: options.Json = False,
) -> None:
    """Split a dataset into train and val, or into folds.

    Each label has about the same frequency in all new splits. The test split is not changed. People in the same image,
    samples with the same --group value, and near-duplicates stay in the same split. Instead of splitting the data,
    --keep-labels and --single-positive add copies of the training split in which some annotations are unknown, so
    that losses for missing labels can be compared.

    Example: mlrec split data/pets --val 0.2 --group patient
    """
    if keep_labels is not None or single_positive:
        if folds is not None or group is not None or groups is not None or prefix:
            raise UsageError(
                "--keep-labels and --single-positive cannot be used with --folds, --group, --groups or --prefix; run "
                "two "
                "separate commands"
            )
        _hide_labels(options.one_dataset(dataset, data), keep_labels, single_positive, from_, seed, json)
        return
    from mlrec.workflows.data import split as workflow
    from mlrec.workflows.next_steps import train_command

    result = workflow.split(
        options.one_dataset(dataset, data),
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
        console.result_json(result.to_dict())
        return
    console.result_tables([workflow.summary(result)])
    train, held_out = list(result.sizes)[:2]  # the first fold if there are several
    console.result_line(f"written to {result.dataset.path}; next: {train_command(result.dataset, train, held_out)}")


def _hide_labels(
    dataset: Path | None, keep_labels: str | None, single_positive: bool, from_: str | None, seed: int, json: bool
) -> None:
    from mlrec.config_layers import parse_numbers
    from mlrec.workflows.data import hide_labels as workflow

    keep = parse_numbers(keep_labels, "--keep-labels") if keep_labels is not None else []
    result = workflow.hide_labels(dataset, keep=keep, single_positive=single_positive, whole=from_, seed=seed)
    if json:
        console.result_json(result.to_dict())
        return
    console.result_tables([workflow.summary(result)])
    split = next(iter(result.counts))
    place = shlex.quote(str(result.dataset.path))
    console.result_line(f"written to {place}; next: mlrec train --data {place} --train-split {split} --loss splc")
