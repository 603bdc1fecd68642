"""`mlrec export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlrec.cli import console, options


def export(
    model: options.TrainedModel = None,
    form: Annotated[
        Literal["onnx", "safetensors", "hf"],
        typer.Option("--format", help="Export format: onnx, safetensors, or hf (Hugging Face Hub)."),
    ] = "onnx",
    to: Annotated[
        Path | None, typer.Option("--out", help="Output folder [default: export-FORMAT next to the model].")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Dataset used to compare both models [default: the run's dataset].")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split used to compare both models [default: the run's split].")
    ] = None,
    images: Annotated[int, typer.Option(help="Number of images used to compare both models.", min=1)] = 64,
    push: Annotated[
        str | None,
        typer.Option(
            help="Hugging Face Hub repository to upload to (only with --format hf); new repositories are private.",
            metavar="USER/NAME",
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make the repository created by --push public.")] = False,
    json: options.Json = False,
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Export a model for deployment.

    Writes a folder with the model, labels, preprocessing settings, tuned thresholds and a model card. The exported
    model is compared with the original model on images from the dataset. If the logits differ by more than 1e-4 times
    max(1, largest absolute logit), nothing is written. Run the exported model with mlrec predict --run FOLDER (ONNX
    models do not need timm).

    Example: mlrec export runs/voc2007-resnet101-csra-1 --format onnx
    """
    from mlrec.workflows.deploy import export as workflow

    terminal = console.Terminal()
    found = workflow.export(
        model,
        form=form,
        out=to,
        data=data,
        split=split,
        images=images,
        push_to=push,
        public=public,
        runs_root=runs_root,
        progress=terminal,
    )
    if json:
        console.result_json(found.to_dict())
        return
    width = max(map(len, found.files))
    console.result("\n".join(f"{name:{width}}  {size:>13,} bytes" for name, size in found.files.items()))
    console.result_line(f"check: {found.agreement.in_words()}")
    if not found.tuned:
        terminal.say(
            "the run has no tuned thresholds, so the exported threshold is 0.5; to use tuned thresholds, run "
            "mlrec tune, then export again"
        )
    terminal.say(f"written to {found.path}; next: mlrec predict PHOTOS --run {found.path}")
    if found.pushed is not None:
        terminal.say(f"uploaded to {found.pushed}; to load the model, call mlrec.load_model('hf://{push}')")
