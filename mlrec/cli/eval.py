"""`mlrec eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec import processes
from mlrec.cli import console, options


def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run or of an imported model, or a .safetensors [default: the last run]."),
    ] = None,
    data: options.Data = None,
    split: Annotated[str | None, typer.Option(help="Split to score [default: the run's, else test or val].")] = None,
    top3: options.Top3 = False,
    labels: options.Labels = None,
    conventions: options.Conventions = "mlrec",
    json: options.Json = False,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step [default: the training's].", min=1)] = None,
    workers: Annotated[
        int | None, typer.Option(help="Loader processes [default: by the machine's cores].", min=0)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, tf32, bf16 or fp16.")] = "auto",
    out: options.Out = Path("runs"),
) -> None:
    """Score a trained model anew, on its own data or on any with the same labels.

    Predictions and metrics go to a folder eval-DATA-SPLIT beside the model; labels are matched by name.

    Example: mlrec eval runs/voc2007-resnet101-csra-1 --top3
    """
    from mlrec.reports.scored import scored_tables
    from mlrec.workflows.evaluate import Machine, evaluate_run

    terminal = console.Terminal()
    found = evaluate_run(
        model,
        data=data,
        split=split,
        labels=options.names(labels),
        conventions=conventions,
        machine=Machine(batch_size, workers, device, precision),
        runs_root=out,
        progress=terminal,
    )
    if processes.rank():
        return
    if json:
        console.result_json(found.metrics.to_dict())
        return
    console.result_tables(scored_tables(found.metrics, title=found.path.parent.name, top3=top3))
    terminal.say(f"written to {found.path}")
