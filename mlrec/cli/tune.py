"""`mlrec tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options


def tune(
    model: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run or of an imported model, or a .safetensors [default: the last run]."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to choose on; not the one whose numbers you report.")] = "val",
    data: options.Data = None,
    target: Annotated[str, typer.Option(help="CF1, OF1 or F1 (each label's own).")] = "CF1",
    min_precision: Annotated[
        float | None, typer.Option(help="Instead: the highest recall at which each label has this precision.")
    ] = None,
    least: Annotated[
        int, typer.Option("--min-positives", help="Labels with fewer take the threshold of all labels.", min=1)
    ] = 20,
    json: options.Json = False,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step [default: the training's].", min=1)] = None,
    workers: Annotated[
        int | None, typer.Option(help="Loader processes [default: one a core beside a GPU, else none].", min=0)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, tf32, bf16 or fp16.")] = "auto",
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Choose each label's threshold and calibrate its probabilities, on a split that you do not report.

    Written as thresholds.json beside the model; predict --tuned and eval --tuned use it. What is shown of the split
    itself is cross-fitted: no sample is judged by thresholds that it helped to choose.

    Example: mlrec tune runs/voc2007-resnet101-csra-1 --split val --target CF1
    """
    from mlrec.reports.threshold_report import threshold_table, tuning_table
    from mlrec.workflows.evaluate import tune as workflow
    from mlrec.workflows.evaluate.evaluate import RuntimeOptions

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
    terminal.say(f"written to {found.file}; used by mlrec predict --tuned and mlrec eval --tuned")
