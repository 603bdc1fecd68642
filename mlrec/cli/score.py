"""`mlrec score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options


def score(
    predictions: Annotated[Path, typer.Argument(help="Scores: an .npz of logits, or a .csv.", metavar="PREDICTIONS")],
    truth: Annotated[
        Path | None,
        typer.Argument(help="The truth: a .csv, a manifest, or a prepared data set.", metavar="TRUTH"),
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="The .csv holds logits, not probabilities.")] = False,
    split: Annotated[str | None, typer.Option(help="Which split, where the truth holds several.")] = None,
    top3: options.Top3 = False,
    labels: options.Labels = None,
    conventions: options.Conventions = "mlrec",
    json: options.Json = False,
) -> None:
    """Score anybody's predictions: mAP, CP CR CF1 OP OR OF1, AP label by label, and how it was counted.

    A CSV names the sample in its first column and a label in each other: filename,cat,dog. The truth holds 1, 0 and
    -1 (unknown). Columns and rows are matched by name.

    Example: mlrec score predictions.csv truth.csv --top3
    """
    from mlrec.reports.scored import scored_tables
    from mlrec.workflows import score as workflow

    metrics = workflow.score(
        predictions,
        truth,
        split=split,
        logits=logits,
        labels=options.names(labels),
        conventions=conventions,
        progress=console.Terminal(),
    )
    if json:
        console.result_json(metrics.to_dict())
        return
    console.result_tables(scored_tables(metrics, title=str(predictions), top3=top3))
