"""`mlrec export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import printable


def export(
    model: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run or of an imported model, or a .safetensors [default: the last run]."),
    ] = None,
    form: Annotated[Literal["onnx", "safetensors"], typer.Option("--format", help="Form of the weights.")] = "onnx",
    to: Annotated[
        Path | None, typer.Option("--out", help="The folder [default: export-FORM beside the model].")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Dataset to check it on [default: the run's own].")] = None,
    split: Annotated[str | None, typer.Option(help="Split to check it on [default: the run's].")] = None,
    images: Annotated[int, typer.Option(help="Images to check it on.", min=1)] = 64,
    json: options.Json = False,
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Write a folder to deploy: the model, its labels and preprocessing, tuned thresholds, a model card.

    The exported model is run beside the one it was made from, on images of the dataset; where the logits differ by
    more than 1e-4 nothing is written. mlrec predict --run FOLDER runs it, of ONNX without timm.

    Example: mlrec export runs/voc2007-resnet101-csra-1 --format onnx
    """
    from mlrec.workflows.deploy import export as workflow

    terminal = console.Terminal()
    found = workflow.export(
        model, form=form, out=to, data=data, split=split, images=images, runs_root=runs_root, progress=terminal
    )
    if json:
        console.result_json(found.to_dict())
        return
    width = max(map(len, found.files))
    console.result("\n".join(f"{name:{width}}  {size:>13,} bytes" for name, size in found.files.items()))
    console.result(f"check: {found.agreement.in_words()}")
    if not found.tuned:
        terminal.say("no tuned thresholds: 0.5 holds; choose them with mlrec tune, and export again")
    terminal.say(f"written to {printable(found.path)}; next: mlrec predict PHOTOS --run {printable(found.path)}")
