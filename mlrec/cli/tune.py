"""`mlrec tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options


def tune(
    model: options.TrainedModel = None,
    split: Annotated[str, typer.Option(help="Split used for tuning; do not report results on this split.")] = "val",
    data: options.Data = None,
    target: Annotated[
        str, typer.Option(help="Metric to maximize: CF1, OF1, or F1 (separately for each label).", metavar="METRIC")
    ] = "CF1",
    min_precision: Annotated[
        float | None,
        typer.Option(help="Minimum precision per label; if set, recall is maximized instead of the --target metric."),
    ] = None,
    least: Annotated[
        int,
        typer.Option(
            "--min-positives", help="Minimum number of positives that a label needs for its own threshold.", min=1
        ),
    ] = 20,
    json: options.Json = False,
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Tune a threshold for each label and calibrate probabilities.

    Use a split whose metrics you do not report. The result is written to thresholds.json in the model folder; mlrec
    predict --tuned and mlrec eval --tuned use this file. The printed metrics are cross-fitted: each sample is evaluated
    with thresholds that were tuned on other samples.

    Example: mlrec tune runs/voc2007-resnet101-csra-1 --split val --target CF1
    """
    from mlrec.reports.threshold_report import threshold_table, tuning_table
    from mlrec.workflows.evaluate import tune as workflow
    from mlrec.workflows.runtime import RuntimeOptions

    terminal = console.Terminal()
    found = workflow.tune(
        model,
        split=split,
        data=data,
        target=target,
        precision=min_precision,
        least=least,
        machine=RuntimeOptions(batch_size, workers, device, precision),
        runs_root=runs_root,
        progress=terminal,
    )
    if json:
        console.result_json(found.to_dict())
        return
    judged = [(j.on, j.how, j.rates, j.reliability) for j in found.judged]
    console.result_tables([tuning_table(judged, found.tuned), threshold_table(found.tuned)])
    terminal.say(f"written to {found.file}; next: mlrec eval --tuned or mlrec predict --tuned")
