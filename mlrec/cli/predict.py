"""`mlrec predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import DataError, UsageError, printable


def predict(
    paths: options.Images = None,
    run: options.Model = None,
    boxes: options.Boxes = None,
    threshold: Annotated[
        float | None, typer.Option(help="Say labels of at least this probability [default: 0.5].", min=0, max=1)
    ] = None,
    tuned: options.Tuned = False,
    top: Annotated[int | None, typer.Option(help="Say the N most probable labels instead.", min=1)] = None,
    form: Annotated[Literal["csv", "jsonl"], typer.Option("--format", help="Form of the result.")] = "csv",
    save_images: Annotated[Path | None, typer.Option(help="Write each image with its labels into this folder.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per batch [default: the training's].", min=1)] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode [default: by the cores].", min=0)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, tf32, bf16 or fp16.")] = "auto",
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Say what images show: a line an image on stdout, in the order given, with labels and all probabilities.

    An image that cannot be read is told on stderr and has no line; the exit code is then 1. With --boxes each box is
    looked at by itself. With --tuned labels are said by their own thresholds, and probabilities are calibrated.

    Example: mlrec predict photos 'more/*.jpg' --run runs/voc2007-resnet101-csra-1 > predictions.csv
    """
    from mlrec.datasets.listing import boxes_of, items_of
    from mlrec.workflows.deploy.predict import ROW_FORMATS, Gallery, csv_header, open_scorer, with_tuned
    from mlrec.workflows.deploy.predict import predict as workflow
    from mlrec.workflows.evaluate.evaluate import RuntimeOptions

    if tuned and threshold is not None:
        raise UsageError("--tuned brings its own thresholds; leave --threshold out")
    if bool(paths) == bool(boxes):
        raise UsageError("give images, folders or globs, or --boxes FILE, and not both")
    terminal, bad = console.Terminal(), 0
    items = iter(boxes_of(boxes)) if boxes else items_of(paths or [], terminal.warn)
    machine = RuntimeOptions(batch_size, workers, device, precision)
    model = options.model_or_last(run, runs_root, terminal)
    scorer, least = with_tuned(open_scorer(model, machine), model if tuned else None, threshold)
    gallery = Gallery(save_images, scorer.decode) if save_images else None

    def told(_: object, error: DataError) -> None:
        nonlocal bad
        bad += 1
        terminal.warn(str(error))

    if form == "csv":
        console.result(csv_header(scorer.labels))
    for found in workflow(scorer, items, threshold=least, top=top, machine=machine, on_error=told, progress=terminal):
        console.result(ROW_FORMATS[form](found.id, found.predicted, found.scores))
        if gallery:
            gallery.add(found)
    if bad:
        raise DataError(f"{bad} image{'s' if bad > 1 else ''} could not be read (named above); the others are done")
    if save_images:
        terminal.say(f"images with their labels in {printable(save_images)}")
