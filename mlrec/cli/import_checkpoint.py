"""`mlrec import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.config import LARGEST_IMAGE


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint file.", metavar="CHECKPOINT")],
    lam: Annotated[
        float | None,
        typer.Option(help="Value of λ, which is not stored in checkpoints [default: the published value].", min=0),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Dataset: voc2007, coco2014, wider, or a prepared dataset [default: inferred from the number of "
            "labels]."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Output folder [default: imported/STEM, where STEM is the file name without its extension]."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Name of the timm model, if it cannot be inferred from the file.")
    ] = None,
    img_size: Annotated[
        int | None,
        typer.Option(
            help="Side length of the square input in pixels [default: inferred from the file, otherwise 448 for CSRA "
            "and the backbone default for other heads].",
            min=1,
            max=LARGEST_IMAGE,
        ),
    ] = None,
    normalization: Annotated[
        str | None,
        typer.Option(
            help="Pixel normalization: weights, unit, half or imagenet [default: half for CSRA on WIDER, unit for "
            "other CSRA models, otherwise weights].",
            metavar="NAME",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Import a third-party checkpoint.

    Reads checkpoints from the paper's code, mmpretrain, CutMix, torchvision and timm. Code in the file is never
    executed. The head, labels, depth and image size are inferred from tensor names and shapes. Use the imported model
    with mlrec eval, predict, attend or export.

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
