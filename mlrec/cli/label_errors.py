"""`mlrec label-errors`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlrec.cli import console, options


@options.with_config_flags
def label_errors(
    flags: dict[str, Any],
    folds: Annotated[
        int | None,
        typer.Option(
            help="Number of folds [default: the number of folds in the dataset, or 5 if the dataset has no folds]."
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="File with scores for --split, from a model that was not trained on --split; if set, no heads are "
            "trained."
        ),
    ] = None,
    logits: options.Logits = False,
    probabilities: options.Probabilities = False,
    recipe: Annotated[str, typer.Option(help="Name of a recipe.", metavar="NAME")] = "demo",
    settings: options.Settings = None,
    out: Annotated[
        Path,
        typer.Option(help="Output folder for the list of label errors, the contact sheet and the runs of the folds."),
    ] = Path("label-errors"),
    json: options.Json = False,
) -> None:
    """Find label errors in a dataset.

    Trains one head per fold on features from a frozen backbone. Annotations that contradict the predictions on held-out
    samples are ranked by how likely they are to be wrong. Folds created by mlrec split are used if they exist;
    otherwise, new folds are created. Confident learning sets a threshold for each label. The thresholds
    determine how many annotations are listed and how many errors are expected.

    Example: mlrec label-errors --data data/voc2007 --head average
    """
    from mlrec.workflows.evaluate import label_errors as workflow

    given = options.with_settings(settings, flags)
    data, split = given.pop("data", None), given.pop("split", None)
    errors = workflow.label_errors(
        None if data is None else Path(data),
        predictions=predictions,
        kind=options.score_kind(logits, probabilities),
        split_name=split,
        folds=folds,
        flags=given,
        recipe=recipe,
        out=out,
        progress=console.Terminal(),
    )
    table = workflow.summary(errors)
    if json:
        console.result_json(console.tables_as_data([table])[0])
        return
    console.result_tables([table])
