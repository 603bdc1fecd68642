"""`mlrec lambda-sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.config_layers import parse_numbers
from mlrec.utils import processes


def lambda_sweep(
    model: options.TrainedModel = None,
    lam: Annotated[
        str | None,
        typer.Option(
            help="Values of λ, written as a,b,c or start:stop:step [default: 0:1:0.01, or 0 with --by-size].",
            metavar="A:B:STEP",
        ),
    ] = None,
    data: options.Data = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split to evaluate on [default: the split of the run; if the dataset has no such split, test or val]."
        ),
    ] = None,
    select_on: Annotated[
        str | None,
        typer.Option(
            help="Split on which λ is selected [default: the evaluated split; the result is then marked with †]."
        ),
    ] = None,
    temperatures: Annotated[
        str | None,
        typer.Option(
            help="Softmax temperatures of the attention at test time; inf means max pooling [default: the head's "
            "temperatures for CSRA, otherwise inf].",
            metavar="A,B,...",
        ),
    ] = None,
    normalize_logits: Annotated[
        bool,
        typer.Option(
            "--normalize-logits",
            help="Divide the saved logits by 1 + λ; metrics are always computed both with and without the division.",
        ),
    ] = False,
    by_size: Annotated[
        bool,
        typer.Option(
            "--by-size",
            help="Print AP by object size and object count for average pooling, attention with a fixed λ, and "
            "attention alone.",
        ),
    ] = False,
    labels: options.Labels = None,
    conventions: options.Conventions = "mlrec",
    resamples: options.Resamples = 1000,
    json: options.Json = False,
    full: options.Full = False,
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Evaluate a model with residual attention added at test time.

    λ times the attention-pooled score of each label is added to its logit (Figure 1 and Table 1 of the paper). All
    values of λ are evaluated in a single pass over the images. The result is written to lambda-DATA-SPLIT/lambda.json
    in the model folder, or next to the model file.

    Example: mlrec lambda-sweep runs/voc2007-resnet101-average-1 --lam 0:1:0.01
    """
    from mlrec.workflows.evaluate import lambda_sweep as workflow
    from mlrec.workflows.runtime import RuntimeOptions

    if lam is None:
        lam = "0:1:0.01"
        if by_size:
            lam = "0"
    degrees = parse_numbers(temperatures, "--temperatures") if temperatures else ()
    question = workflow.LambdaSweepConfig(
        parse_numbers(lam, "--lam"), degrees, select_on, normalize_logits, resamples, by_size
    )
    terminal = console.Terminal()
    result = workflow.lambda_sweep(
        model,
        question,
        data=data,
        split=split,
        labels=options.names(labels),
        conventions=conventions,
        machine=RuntimeOptions(batch_size, workers, device, precision),
        runs_root=runs_root,
        progress=terminal,
    )
    if processes.rank():
        return
    if json:
        console.result_json(result.content)
    else:
        console.result_tables(result.tables, full=full)
    terminal.say(f"written to {result.path}; next: mlrec report --table 1")
