"""`mlrec import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console
from mlrec.config import LARGEST_IMAGE


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="The file of weights.", metavar="CHECKPOINT")],
    lam: Annotated[
        float | None, typer.Option(help="λ, which no file holds [default: the published one].", min=0)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="voc2007, coco2014, wider, or a prepared dataset [default: by number of labels]."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write [default: imported/NAME of the file].")] = None,
    backbone: Annotated[str | None, typer.Option(help="timm name, where the names in the file do not tell.")] = None,
    img_size: Annotated[
        int | None, typer.Option(help="Side of the input in pixels [default: as trained].", min=1, max=LARGEST_IMAGE)
    ] = None,
    normalization: Annotated[
        str | None, typer.Option(help="weights, unit, half or imagenet [default: as its makers used].")
    ] = None,
) -> None:
    """Bring a checkpoint of the paper's code, mmpretrain, CutMix, torchvision or timm into mlrec's own form.

    Plain tensors are read and nothing in the file is ever run. Heads, labels, depth and image size are found from
    names and shapes. The folder written works with eval, predict, attend and export.

    Example: mlrec import resnet101_voc07_head1_lam0.1_94.7.pth --dataset voc2007 --out official
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
        progress=console.Terminal(),
    )
    for name, value in import_checkpoint.summary(imported):
        console.result(f"{name:<11} {value}")
