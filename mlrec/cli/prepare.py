"""`mlrec prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlrec.cli import console, options
from mlrec.datasets.readers.registry import READERS, ReadOptions
from mlrec.datasets.split_names import parse_names
from mlrec.utils.errors import UsageError

Kind = Annotated[str, typer.Argument(help=f"Kind of annotations: {', '.join(READERS)}.", metavar="KIND")]
Source = Annotated[
    Path | None,
    typer.Argument(
        help="Devkit, folder or file [not needed with --annotations].",
        metavar="PATH",
        show_default=False,
    ),
]


def prepare(
    kind: Kind,
    path: Source = None,
    out: Annotated[Path, typer.Option(help="Folder of prepared datasets.")] = Path("data"),
    name: Annotated[str | None, typer.Option(help="Name of the dataset [default: the source's own].")] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Skip the check of the image files.")] = False,
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", help="Skip images that cannot be decoded, with a warning.")
    ] = False,
    keep_empty: Annotated[
        bool, typer.Option("--keep-empty", help="coco: images without any annotation are kept, as negatives.")
    ] = False,
    year: Annotated[str | None, typer.Option(help="coco: year, if a folder has several.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if they are elsewhere.")] = None,
    annotations: Annotated[
        list[Path] | None, typer.Option(help="coco: annotation file; repeatable, one per split.", metavar="PATH")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="coco: split of each --annotations, in the same order.", metavar="SPLIT")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Label names, if the source does not name them, or a selection.", metavar="A,B,..."),
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option(help="Splits with other names, such as learning=train,holdout=test.", metavar="OWN=val,..."),
    ] = None,
    negative: Annotated[
        str | None, typer.Option(help="csv: value that means negative, in addition to 0.", metavar="VALUE")
    ] = None,
    unknown: Annotated[
        str | None, typer.Option(help="csv: value that means unknown, in addition to -1.", metavar="VALUE")
    ] = None,
    seed: Annotated[int, typer.Option(help="shapes: random seed of the scenes.", min=0)] = 0,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Images in two splits are accepted, with a warning.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Prepare a dataset from annotations.

    The result is read by all other commands. Every image is decoded once as a check.

    Example: mlrec prepare voc2007 VOCdevkit
    """
    from mlrec.workflows.data import prepare as workflow
    from mlrec.workflows.next_steps import after_prepare

    given = options.names(labels)
    dataset = workflow.prepare(
        kind,
        _place(path, annotations, images),
        out=out,
        name=name,
        options=ReadOptions(
            images=images,
            annotations=tuple(annotations or ()),
            splits=tuple(split or ()),
            labels=None if given is None else tuple(given),
            split_names=parse_names(splits) if splits is not None else {},
            negative=negative,
            unknown=unknown,
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
    command = after_prepare(dataset)
    console.result(f"written to {dataset.path}" + (f"; next: {command}" if command else ""))


def _place(path: Path | None, annotations: list[Path] | None, images: Path | None) -> Path:
    """PATH, which may be left out if --annotations is given."""
    if path is not None:
        return path
    if not annotations:
        raise UsageError("PATH is missing: give the place of the annotations, as in mlrec prepare voc2007 VOCdevkit")
    return images or annotations[0].absolute().parent


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
