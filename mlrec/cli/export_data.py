"""`mlrec export-data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlrec.cli import console, options


def export_data(
    dataset: options.Dataset = None,
    data: options.DataFlag = None,
    format_: Annotated[
        Literal["csv", "coco", "imagefolder", "labelstudio", "fiftyone"],
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Format: csv, coco, imagefolder (Hugging Face), labelstudio or fiftyone.",
        ),
    ] = "csv",
    out: Annotated[Path | None, typer.Option(help="Output folder [default: DATASET-FORMAT].")] = None,
    splits: Annotated[str | None, typer.Option(help="Splits to export [default: all].", metavar="A,B,...")] = None,
    unknown: Annotated[
        Literal["keep", "negative"],
        typer.Option(help="Treatment of unknown labels: keep (leave them unknown), or negative."),
    ] = "keep",
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Run, evaluation folder or predictions.npz file whose predictions are exported (only for the formats "
            "labelstudio, fiftyone and coco)."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Export a prepared dataset for other tools.

    To check the export, the files are read back and compared with the dataset.

    Example: mlrec export-data data/voc2007 --format csv
    """
    from mlrec.workflows.data.export_data import export_data as export

    target, command = export(
        options.one_dataset(dataset, data),
        format_=format_,
        out=out,
        splits=options.names(splits),
        unknown_as_negative=unknown == "negative",
        predictions=predictions,
    )
    if json:
        console.result_json({"path": str(target), "command": command})
        return
    console.result_line(f"written to {target}; to read the export back:")
    console.result_line(f"  {command}")
