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
        int | None, typer.Option(help="Number of folds [default: those of the dataset, otherwise 5].")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Scores of --split by a model that was not trained on it; nothing is trained.")
    ] = None,
    logits: options.Logits = False,
    probabilities: options.Probabilities = False,
    recipe: Annotated[str, typer.Option(help="Name of a recipe.", metavar="NAME")] = "demo",
    settings: options.Settings = None,
    out: Annotated[Path, typer.Option(help="Output folder: list, contact sheet, and runs of the folds.")] = Path(
        "label-errors"
    ),
    json: options.Json = False,
) -> None:
    """Find label errors in a dataset.

    Trains one head per fold (existing folds of mlrec split, or new ones) on features of a frozen backbone, and ranks
    the annotations that held-out predictions contradict. The numbers of listed annotations and expected errors follow
    from a threshold per label (confident learning).

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
