"""`mlrec score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options


def score(
    predictions: Annotated[
        Path,
        typer.Argument(help="Scores: an .npz of logits, a .csv, or the output of predict.", metavar="PREDICTIONS"),
    ],
    truth: Annotated[
        Path | None,
        typer.Argument(help="True labels: a .csv, a manifest, or a prepared dataset.", metavar="TRUTH"),
    ] = None,
    logits: options.Logits = False,
    probabilities: options.Probabilities = False,
    split: Annotated[str | None, typer.Option(help="Split of the truth, if it has several.")] = None,
    top3: options.Top3 = False,
    top: options.Top = None,
    labels: options.Labels = None,
    conventions: options.Conventions = "mlrec",
    json: options.Json = False,
    full: options.Full = False,
) -> None:
    """Score predictions of any model.

    Prints mAP, CP, CR, CF1, OP, OR, OF1 and AP per label (for more than 20 labels only the lowest and the highest,
    unless --full is set).

    A CSV has the sample in its first column and one label in each other column: filename,cat,dog. The output of mlrec
        predict is also accepted. The truth contains 1, 0 and -1 (unknown). Columns and rows are matched by name;
        photos/a.jpg
    matches a.jpg if no other sample does. Scores of a CSV are logits if one is negative, and probabilities if all are
    in [0, 1], unless --logits or --probabilities is set.

    Example: mlrec score predictions.csv truth.csv --top3
    """
    from mlrec.reports.runs_table import scored_tables
    from mlrec.workflows.evaluate import score as workflow

    metrics = workflow.score(
        predictions,
        truth,
        split=split,
        kind=options.score_kind(logits, probabilities),
        labels=options.names(labels),
        conventions=conventions,
        top=top,
    )
    if json:
        console.result_json(metrics.to_dict())
        return
    console.result_tables(scored_tables(metrics, title=str(predictions), top3=top3, all_labels=full), full=full)
