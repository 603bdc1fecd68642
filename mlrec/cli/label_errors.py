"""`mlrec label-errors`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlrec.cli import console, options


@options.with_config_flags
def label_errors(
    flags: dict[str, Any],
    folds: Annotated[int | None, typer.Option(help="How many folds [default: those that are there, else 5].")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Scores of --split by a model not trained on it; then nothing is trained.")
    ] = None,
    logits: options.Logits = False,
    probabilities: options.Probabilities = False,
    recipe: Annotated[str, typer.Option(help="Recipe of the training.")] = "demo",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A key and its value, as key=value; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the list, the contact sheet and the folds' runs.")] = Path(
        "label-errors"
    ),
) -> None:
    """Find annotations to review: each sample is judged by a model that has not seen it.

    Trains a head on each fold (of mlrec split --folds, or made now), with a frozen backbone whose features are computed
    once, and ranks the annotations that the held-out predictions contradict. Thresholds of each label (confident
    learning) decide how many are listed, and how many errors are expected.

    Example: mlrec label-errors --data data/voc2007 --head average
    """
    from mlrec.workflows.evaluate import label_errors as workflow

    given = options.with_settings(settings, flags)
    data, split = given.pop("data", None), given.pop("split", None)
    doubts = workflow.label_errors(
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
    console.result_tables([workflow.summary(doubts)])
