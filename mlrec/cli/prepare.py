"""`mlrec prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlrec.cli import console, options
from mlrec.datasets.sources import SOURCES, ReadOptions

Kind = Annotated[str, typer.Argument(help=f"What it is: {', '.join(SOURCES)}.", metavar="KIND")]
Source = Annotated[Path, typer.Argument(help="Where it is: the devkit, the folder, the file.", metavar="PATH")]


def prepare(
    kind: Kind,
    path: Source,
    out: Annotated[Path, typer.Option(help="Folder of prepared data sets.")] = Path("data"),
    name: Annotated[str | None, typer.Option(help="Name of the data set [default: the source's own].")] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not touch the image files.")] = False,
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", help="Leave out images that cannot be decoded, with a warning.")
    ] = False,
    keep_empty: Annotated[
        bool, typer.Option("--keep-empty", help="coco: keep images without any annotation, as negatives.")
    ] = False,
    year: Annotated[str | None, typer.Option(help="coco: which year of several in one folder.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, where they are elsewhere.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="coco: one own annotation file.")] = None,
    split: Annotated[str | None, typer.Option(help="coco: the split that --annotations is.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Label names, where the source does not name them, or a choice.", metavar="A,B,..."),
    ] = None,
    seed: Annotated[int, typer.Option(help="shapes: seed of the scenes.", min=0)] = 0,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Accept images of test that are in another split, too.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Turn annotations into a data set that train and eval read; every image is decoded once.

    Example: mlrec prepare voc2007 VOCdevkit
    """
    from mlrec.workflows import prepare as workflow

    given = options.names(labels)
    dataset = workflow.prepare(
        kind,
        path,
        out=out,
        name=name,
        options=ReadOptions(
            images=images,
            annotations=annotations,
            split=split,
            labels=None if given is None else tuple(given),
            year=year,
            keep_empty=keep_empty,
            seed=seed,
        ),
        verify=not no_verify,
        skip_bad_images=skip_bad_images,
        allow_overlap=allow_overlap,
        progress=console.Terminal(),
    )
    table = workflow.summary(dataset)
    if json:
        console.result_json(_as_json(dataset, table))
        return
    console.result_tables([table])
    console.result(f"written to {dataset.path}; next: mlrec train --data {dataset.path}")


def _as_json(dataset: Any, table: Any) -> dict[str, Any]:
    keys = [column.key for column in table.columns]
    info = dataset.info
    return {
        "name": info.name,
        "path": str(dataset.path),
        "labels": info.labels,
        "splits": {str(row.cells[0]): dict(zip(keys[1:], row.cells[1:], strict=True)) for row in table.rows},
        "skipped": info.skipped,
        "warnings": info.warnings,
    }
