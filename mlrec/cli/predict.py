"""`mlrec predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import DataError, UsageError, counted, printable


def predict(
    paths: options.Images = None,
    run: options.Model = None,
    boxes: options.Boxes = None,
    threshold: Annotated[
        float | None, typer.Option(help="Smallest probability of a predicted label [default: 0.5].", min=0, max=1)
    ] = None,
    tuned: options.Tuned = False,
    top: Annotated[int | None, typer.Option(help="Number of most probable labels to predict instead.", min=1)] = None,
    form: Annotated[Literal["csv", "jsonl"], typer.Option("--format", help="Output format.")] = "csv",
    json: Annotated[bool, typer.Option("--json", help="Short for --format jsonl: one JSON object per line.")] = False,
    save_images: Annotated[Path | None, typer.Option(help="Folder for the images with their labels.")] = None,
    batch_size: options.BatchSize = None,
    workers: options.DecodeThreads = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Predict labels for images.

    Writes one line per image to stdout, in input order, with labels and all probabilities. Unreadable images are
    reported on stderr and skipped; the exit code is then 1. With --boxes each box is classified by itself. With --tuned
    each label has its own threshold, and probabilities are calibrated.

    Example: mlrec predict photos --run runs/voc2007-resnet101-csra-1 > out.csv
    """
    from mlrec.datasets.listing import boxes_of, items_of
    from mlrec.workflows.deploy.predict import ROW_FORMATS, Gallery, csv_header, open_scorer, with_tuned
    from mlrec.workflows.deploy.predict import predict as workflow
    from mlrec.workflows.runtime import RuntimeOptions

    if tuned and threshold is not None:
        raise UsageError("--tuned has its own thresholds; leave --threshold out")
    if bool(paths) == bool(boxes):
        raise UsageError("give images, folders or globs, or --boxes FILE, but not both")
    if json:
        form = "jsonl"
    terminal, unreadable = console.Terminal(), 0
    items = iter(boxes_of(boxes)) if boxes else items_of(paths or [], terminal.warn)
    machine = RuntimeOptions(batch_size, workers, device, precision)
    model = options.model_or_last(run, runs_root, terminal)
    scorer, least = with_tuned(open_scorer(model, machine), model if tuned else None, threshold)
    gallery = Gallery(save_images, scorer.decode) if save_images else None

    def report_error(_: object, error: DataError) -> None:
        nonlocal unreadable
        unreadable += 1
        terminal.warn(str(error))

    if form == "csv":
        console.result(csv_header(scorer.labels))
    predictions = workflow(
        scorer, items, threshold=least, top=top, machine=machine, on_error=report_error, progress=terminal
    )
    for prediction in predictions:
        console.result(ROW_FORMATS[form](prediction.id, prediction.predicted, prediction.scores))
        if gallery:
            gallery.add(prediction)
    if unreadable:
        raise DataError(f"{counted(unreadable, 'image')} could not be read (named above); the others are done")
    if save_images:
        terminal.say(f"images with their labels in {printable(save_images)}")
