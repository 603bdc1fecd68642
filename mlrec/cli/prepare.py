"""`mlrec prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlrec.cli import console, options
from mlrec.datasets.readers.registry import READERS, ReadOptions
from mlrec.datasets.readers.split_files import parse_split_file
from mlrec.datasets.split_names import parse_names
from mlrec.utils.errors import UsageError

Kind = Annotated[
    str,
    typer.Argument(help=f"Dataset format: {', '.join(READERS)} [default: detected].", metavar="[KIND]"),
]
Source = Annotated[
    Path | None,
    typer.Argument(
        help="Devkit, annotation folder or annotation file; not required with --annotations.",
        metavar="PATH",
        show_default=False,
    ),
]


def prepare(
    kind: Kind,
    path: Source = None,
    out: Annotated[Path, typer.Option(help="Folder for prepared datasets.")] = Path("data"),
    name: Annotated[str | None, typer.Option(help="Name of the dataset [default: the name of the source].")] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not check that the image files are readable.")
    ] = False,
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", help="Skip images that cannot be decoded, and print a warning.")
    ] = False,
    keep_empty: Annotated[
        bool, typer.Option("--keep-empty", help="coco: keep images without annotations; all their labels are negative.")
    ] = False,
    year: Annotated[
        str | None,
        typer.Option(help="coco: year of the annotations, if the folder contains annotations for several years."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Image folder, if the images are not stored with the annotations.")
    ] = None,
    annotations: Annotated[
        list[Path] | None,
        typer.Option(help="coco: annotation file of one split; repeat the flag for each split.", metavar="PATH"),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="coco: name of the split in an --annotations file; repeat the flag for each file, in the same order.",
            metavar="SPLIT",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Names of the labels, if the source does not contain them; otherwise, the labels to keep.",
            metavar="A,B,...",
        ),
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option(
            help="New names for the splits in the source, such as learning=train,holdout=test.",
            metavar="NAME=val,...",
        ),
    ] = None,
    split_file: Annotated[
        list[str] | None,
        typer.Option(
            help="List of the images in one split (repeat the flag for each split), or one table with an image column "
            "and a split column.",
            metavar="SPLIT=FILE",
        ),
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(help="csv: column with the image names [default: detected].", metavar="NAME", show_default=False),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(help="csv: column with the label names [default: detected].", metavar="NAME"),
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(
            help="csv: separator between the labels in a cell; '' means one label per cell [default: detected]. "
            "folders: separator between the labels in a folder name.",
            metavar="TEXT",
        ),
    ] = None,
    no_label_value: Annotated[
        str | None,
        typer.Option(help="csv: text in the label column that marks an image without labels.", metavar="TEXT"),
    ] = None,
    ignore_columns: Annotated[
        str | None, typer.Option(help="csv: columns that do not contain labels.", metavar="A,B,...")
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="csv: value that means positive, in addition to 1.", metavar="VALUE")
    ] = None,
    negative: Annotated[
        str | None, typer.Option(help="csv: value that means negative, in addition to 0.", metavar="VALUE")
    ] = None,
    unknown: Annotated[
        str | None, typer.Option(help="csv: value that means unknown, in addition to -1.", metavar="VALUE")
    ] = None,
    empty: Annotated[str | None, typer.Option(help="csv: meaning of a blank cell.", metavar="negative|unknown")] = None,
    seed: Annotated[int, typer.Option(help="shapes: random seed for the scenes.", min=0)] = 0,
    allow_overlap: Annotated[
        bool,
        typer.Option("--allow-overlap", help="Accept images that are in more than one split, and print a warning."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be prepared, but do not write any files.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Prepare a dataset from annotations.

    Most other commands use the prepared dataset. Unless --no-verify is set, each image is decoded once to check that it
    is readable.

    Example: mlrec prepare labels.csv
    mlrec prepare voc2007 VOCdevkit
    """
    from mlrec.workflows.data import prepare as workflow
    from mlrec.workflows.next_steps import after_prepare

    given = options.names(labels)
    ignored = options.names(ignore_columns)
    chosen, place = _kind_and_path(kind, path, annotations, images)
    dataset = workflow.prepare(
        chosen,
        place,
        out=out,
        name=name,
        options=ReadOptions(
            images=images,
            annotations=tuple(annotations or ()),
            splits=tuple(split or ()),
            labels=None if given is None else tuple(given),
            split_names=parse_names(splits) if splits is not None else {},
            positive=positive,
            negative=negative,
            unknown=unknown,
            empty=empty,
            image_column=image_column,
            label_column=label_column,
            separator=separator,
            no_label_value=no_label_value,
            ignore_columns=tuple(ignored or ()),
            year=year,
            keep_empty=keep_empty,
            seed=seed,
        ),
        split_files=[parse_split_file(text) for text in split_file or ()],
        verify=not no_verify,
        skip_bad_images=skip_bad_images,
        allow_overlap=allow_overlap,
        dry_run=dry_run,
        progress=console.Terminal(),
    )
    table = workflow.summary(dataset)
    if json:
        console.result_json(_as_json(dataset, table))
        return
    if dry_run:
        console.result_tables([table, *workflow.preview(dataset)])
        console.result_line("dry run: nothing was written; run again without --dry-run to prepare the dataset")
        return
    console.result_tables([table])
    command = after_prepare(dataset)
    console.result_line(f"written to {dataset.path}" + (f"; next: {command}" if command else ""))


def _kind_and_path(
    first: str, second: Path | None, annotations: list[Path] | None, images: Path | None
) -> tuple[str | None, Path]:
    """Return KIND and PATH; KIND is None if it is omitted.

    A single argument is PATH, unless it is the name of a format and no file with that name exists. PATH can be omitted
    if --annotations is set.
    """
    if second is not None:
        return first, second
    if annotations and first in READERS:
        return first, images or annotations[0].absolute().parent
    if first in READERS and not Path(first).exists():
        raise UsageError(f"PATH is missing; pass the path of the annotations: mlrec prepare {first} PATH")
    return None, Path(first)


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
