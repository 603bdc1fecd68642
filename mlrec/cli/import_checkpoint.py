"""`mlrec import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.config import LARGEST_IMAGE


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="File of weights.", metavar="CHECKPOINT")],
    lam: Annotated[
        float | None, typer.Option(help="Value of λ, which is not in the file [default: the published value].", min=0)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="voc2007, coco2014, wider, or a prepared dataset [default: by number of labels]."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write [default: imported/STEM of the file].")] = None,
    backbone: Annotated[str | None, typer.Option(help="timm name, if it cannot be inferred from the file.")] = None,
    img_size: Annotated[
        int | None, typer.Option(help="Side of the input in pixels [default: as trained].", min=1, max=LARGEST_IMAGE)
    ] = None,
    normalization: Annotated[
        str | None, typer.Option(help="weights, unit, half or imagenet [default: as published].", metavar="NAME")
    ] = None,
    json: options.Json = False,
) -> None:
    """Import a third-party checkpoint.

    Reads checkpoints of the paper's code, mmpretrain, CutMix, torchvision and timm. Code in the file is never executed.
    Heads, labels, depth and image size are inferred from tensor names and shapes. Use the result with eval, predict,
    attend or export.

    Example: mlrec import resnet101_voc07_head1_lam0.1_94.7.pth --dataset voc2007
    """
    from mlrec.workflows.deploy import import_checkpoint

    imported = import_checkpoint.import_checkpoint(
        checkpoint,
        out=out,
        lam=lam,
        dataset=dataset,
        backbone=backbone,
        img_size=img_size,
        normalization=normalization,
    )
    if json:
        console.result_json(dict(import_checkpoint.summary(imported)))
        return
    for name, value in import_checkpoint.summary(imported):
        console.result_line(f"{name:<11} {value}")
