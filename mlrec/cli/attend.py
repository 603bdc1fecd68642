"""`mlrec attend`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import UsageError


def attend(
    paths: options.Images = None,
    run: options.Model = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Label for which to draw a heat map; the flag can be repeated [default: the most probable labels].",
            metavar="LABEL",
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Number of labels per image if --label is not set.", min=1)] = 3,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Draw the attention weights of the head with this temperature, instead of the contributions of all "
            "heads; inf means max pooling."
        ),
    ] = None,
    scale: Annotated[
        Literal["image", "sheet"],
        typer.Option(help="Color scale: image (one per image) or sheet (one for all images)."),
    ] = "image",
    boxes: options.Boxes = None,
    out: Annotated[Path, typer.Option(help="Output folder for figures.")] = Path("attention"),
    batch_size: options.BatchSize = None,
    workers: options.DecodeThreads = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    json: options.Json = False,
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Draw heat maps of labels on images.

    Writes one figure per image, and contact sheets with up to 40 images each. A heat map shows how much each location
    contributes to the logit of the label, summed over all heads. Positive values are red and negative values are blue;
    the values of a map add up to the logit. With --temperature, a map shows the attention weights of one head, which
    add up to 1. For the heads attention-pool, ml-decoder and q2l, a map shows the attention weights of the label's
    query, which also add up to 1.

    Example: mlrec attend photos --run runs/voc2007-resnet101-csra-1 --label person
    """
    from mlrec.datasets.listing import boxes_of, items_of
    from mlrec.workflows.evaluate import attend as workflow
    from mlrec.workflows.runtime import RuntimeOptions

    if bool(paths) == bool(boxes):
        raise UsageError(
            f"expected either PATHS or --boxes FILE, but got {'both' if paths else 'neither'}; pass one of them"
        )
    terminal = console.Terminal()
    items = iter(boxes_of(boxes)) if boxes else items_of(paths or [], terminal.warn)
    written = workflow.attend(
        options.model_or_last(run, runs_root),
        items,
        labels=label or None,
        top=top,
        temperature=temperature,
        scale=scale,
        out=out,
        machine=RuntimeOptions(batch_size, workers, device, precision),
        progress=terminal,
    )
    if json:
        console.result_json({"files": [str(path) for path in written]})
    else:
        console.result("\n".join(map(str, written)))
        terminal.say("next: run mlrec eval --localize to measure the quality of the heat maps")
