"""`mlrec score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options


def score(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="Scores: an .npz file with logits, a .csv file, or the output of mlrec predict.", metavar="PREDICTIONS"
        ),
    ],
    truth: Annotated[
        Path | None,
        typer.Argument(help="Ground truth: a .csv file, a manifest, or a prepared dataset.", metavar="TRUTH"),
    ] = None,
    logits: options.Logits = False,
    probabilities: options.Probabilities = False,
    split: Annotated[
        str | None, typer.Option(help="Split to score, if the ground truth contains multiple splits.")
    ] = None,
    top3: options.Top3 = False,
    top: options.Top = None,
    labels: options.Labels = None,
    conventions: options.Conventions = "mlrec",
    json: options.Json = False,
    full: options.Full = False,
) -> None:
    """Score predictions from any model.

    Prints mAP, CP, CR, CF1, OP, OR, OF1 and the AP of each label. If there are more than 20 labels, only the lowest and
    highest AP values are printed, unless --full is set.

    A CSV file has a column of sample names followed by one column per label; its header is, for example,
    'filename,cat,dog'. The output of mlrec predict is also accepted. The values in the ground truth are 1 (positive),
    0 (negative) and -1 (unknown). Rows and columns are matched by name; photos/a.jpg matches a.jpg if no other name
    matches. If neither --logits nor --probabilities is set, the scores in a CSV file are treated as logits if any score
    is negative, and as probabilities if all scores are in [0, 1].

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
