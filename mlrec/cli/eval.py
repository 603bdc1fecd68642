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
    localize: Annotated[
        bool,
        typer.Option("--localize", help="Compare the maps of the labels with boxes and masks (VOC, COCO, shapes)."),
    ] = False,
    tolerance: Annotated[float, typer.Option(help="Of --localize, in cells of the map.", min=0.0)] = 0.5,
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

    Predictions and metrics go to a folder eval-DATA-SPLIT beside the model; labels are matched by name. With
    --localize the peak and the mass of each label's map are set beside its objects, and beside chance.

    Example: mlrec eval runs/voc2007-resnet101-csra-1 --top3
    """
    from mlrec.reports.scored import scored_tables
    from mlrec.workflows.evaluate import Machine, evaluate_run
    from mlrec.workflows.localize import localize as run_localize

    terminal, machine = console.Terminal(), Machine(batch_size, workers, device, precision)
    found = evaluate_run(
        model,
        data=data,
        split=split,
        labels=options.names(labels),
        conventions=conventions,
        machine=machine,
        runs_root=out,
        progress=terminal,
    )
    if processes.rank():
        return
    where = run_localize(found, tolerance=tolerance, machine=machine, progress=terminal) if localize else None
    if json:
        console.result_json(found.metrics.to_dict() | ({"localization": where.to_dict()} if where else {}))
        return
    tables = scored_tables(found.metrics, title=found.path.parent.name, top3=top3)
    console.result_tables([*tables, *(where.tables if where else ())])
    terminal.say(f"written to {found.path}")
