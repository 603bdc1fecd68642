"""`mlrec attend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import UsageError


def attend(
    paths: options.Images = None,
    run: options.Model = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Whose map to draw; repeatable [default: the most probable labels].")
    ] = None,
    top: Annotated[int, typer.Option(help="How many labels, where none is named.", min=1)] = 3,
    head: Annotated[
        float | None,
        typer.Option(
            help="Attention of the head of this temperature (inf: max) instead of contributions.", metavar="T"
        ),
    ] = None,
    boxes: options.Boxes = None,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("attention"),
    batch_size: Annotated[int | None, typer.Option(help="Images per batch [default: the training's].", min=1)] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode [default: by the cores].", min=0)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, tf32, bf16 or fp16.")] = "auto",
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Show what in an image speaks for a label: a picture for each image, and all of them on one sheet.

    Drawn is what each location adds to the label's logit, over all heads: it sums to the logit. With --head it is the
    attention of one head, which sums to 1. Colours mean the same on all pictures of one call.

    Example: mlrec attend photos --run runs/voc2007-resnet101-csra-1 --label person
    """
    from mlrec.datasets.listing import boxes_of, items_of
    from mlrec.workflows.evaluate import attend as workflow
    from mlrec.workflows.runtime import RuntimeOptions

    if bool(paths) == bool(boxes):
        raise UsageError("give images, folders or globs, or --boxes FILE, and not both")
    terminal = console.Terminal()
    items = iter(boxes_of(boxes)) if boxes else items_of(paths or [], terminal.warn)
    written = workflow.attend(
        options.model_or_last(run, runs_root, terminal),
        items,
        labels=label or None,
        top=top,
        temperature=head,
        out=out,
        machine=RuntimeOptions(batch_size, workers, device, precision),
        progress=terminal,
    )
    console.result("\n".join(map(str, written)))
