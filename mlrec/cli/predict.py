"""`mlrec predict`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlrec.cli import console, options
from mlrec.utils import processes
from mlrec.utils.errors import DataError, UsageError, counted

if TYPE_CHECKING:
    from mlrec.datasets.listing import Source
    from mlrec.workflows.deploy.predict_parts import PredictJob

PATHS = typer.Argument(
    metavar="PATHS...",
    help="Images, folders, globs, image lists (.txt), manifests (.jsonl), tar shards, or Parquet files with images.",
)


def predict(
    paths: Annotated[list[str] | None, PATHS] = None,
    run: options.Model = None,
    boxes: options.Boxes = None,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Allow http and https URLs in PATHS (public servers only).")
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Minimum probability for predicting a label [default: 0.5].", min=0, max=1)
    ] = None,
    tuned: options.Tuned = False,
    top: Annotated[
        int | None,
        typer.Option(
            help="Number of labels to predict per image; the most probable labels are predicted, without a threshold.",
            min=1,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output folder or file (.csv, .jsonl, .parquet); run the same command again to resume after an "
            "interruption [default: stdout]."
        ),
    ] = None,
    form: Annotated[
        Literal["csv", "jsonl", "parquet"] | None, typer.Option("--format", help="Output format [default: csv].")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Write one JSON object per line; short for --format jsonl.")
    ] = False,
    part_size: Annotated[
        int,
        typer.Option(
            help="Number of images per part of --out (an input tar or Parquet file is always a single part).", min=1
        ),
    ] = 10_000,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Execution engine for --out: local (with or without torchrun) or ray."),
    ] = "local",
    save_images: Annotated[
        Path | None,
        typer.Option(help="Output folder for copies of the images with the predicted labels drawn on them."),
    ] = None,
    batch_size: options.BatchSize = None,
    workers: options.DecodeThreads = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Predict labels for images.

    Writes one line per image to stdout, in input order, with the predicted labels and all probabilities. Unreadable
    images are reported on stderr and skipped, and the exit code is then 1. With --boxes, each box is classified
    separately. With --tuned, each label has its own threshold, and the probabilities are calibrated. With --out, the
    result is written in parts; run the same command again to resume after a failure. Use torchrun to distribute the
    parts over processes and machines.

    Example: mlrec predict photos --run runs/voc2007-resnet101-csra-1 > out.csv
    torchrun --nproc-per-node 8 -m mlrec predict shards --out scores
    """
    from mlrec.workflows.deploy.predict_parts import PredictJob, output_form
    from mlrec.workflows.runtime import RuntimeOptions

    if tuned and threshold is not None:
        raise UsageError(
            "--threshold cannot be used with --tuned, which sets a threshold for each label; omit --threshold"
        )
    if bool(paths) == bool(boxes):
        raise UsageError(
            f"expected either PATHS or --boxes FILE, got {'both' if paths else 'neither'}; pass one of them"
        )
    if json:
        form = "jsonl"
    machine = RuntimeOptions(batch_size, workers, device, precision)
    terminal = console.Terminal()
    sources = _sources(paths or [], boxes, allow_urls, terminal)
    if out is not None:
        if save_images is not None:
            raise UsageError("--save-images cannot be used with --out; omit --out")
        form = output_form(out, form)
        model = options.model_or_last(run, runs_root)
        _write(PredictJob(model, out, form, threshold, tuned, top, part_size, machine), sources, engine, terminal)
        return
    if engine != "local" or processes.world_size() > 1 or form == "parquet":
        raise UsageError("--out is required with multiple processes, --engine ray or --format parquet; add --out PATH")
    model = options.model_or_last(run, runs_root)
    _print(PredictJob(model, Path(), form or "csv", threshold, tuned, top, part_size, machine), sources, save_images)


def _sources(paths: list[str], boxes: Path | None, allow_urls: bool, terminal: console.Terminal) -> Iterator[Source]:
    from mlrec.datasets.listing import Source, boxes_of, sources_of
    from mlrec.utils.web import is_url
    from mlrec.workflows.deploy.predict_inputs import items_from

    if boxes is not None:
        return iter([Source(iter(boxes_of(boxes)))])
    if any(map(is_url, paths)):
        return iter([Source(items_from(paths, allow_urls=allow_urls))])
    return sources_of(paths, terminal.warn)


def _print(job: PredictJob, sources: Iterator[Source], save_images: Path | None) -> None:
    """Print one line per image."""
    from mlrec.workflows.deploy.predict import Gallery, open_scorer, with_tuned
    from mlrec.workflows.deploy.predict import predict as workflow
    from mlrec.workflows.deploy.predict_rows import ROW_FORMATS, csv_header

    terminal, unreadable = console.Terminal(), 0
    scorer, least = with_tuned(open_scorer(job.model, job.machine), job.model if job.tuned else None, job.threshold)
    gallery = None
    if save_images:
        gallery = Gallery(save_images, scorer.decode)

    def report_error(_: object, error: DataError) -> None:
        nonlocal unreadable
        unreadable += 1
        terminal.warn(str(error))

    if job.form == "csv":
        console.result(csv_header(scorer.labels))
    items = (item for source in sources for item in source.items)
    predictions = workflow(
        scorer, items, threshold=least, top=job.top, machine=job.machine, on_error=report_error, progress=terminal
    )
    for prediction in predictions:
        console.result(ROW_FORMATS[job.form](prediction.id, prediction.predicted, prediction.scores))
        if gallery:
            gallery.add(prediction)
    if unreadable:
        raise DataError(
            f"{counted(unreadable, 'image')} could not be read (listed above); all other images were processed"
        )
    if save_images:
        terminal.say(f"annotated images were written to {save_images}")


def _write(
    job: PredictJob, sources: Iterator[Source], engine: Literal["local", "ray"], terminal: console.Terminal
) -> None:
    """Write the output files; the process that completes them also reports the result."""
    from mlrec.workflows.deploy.predict_parts import write_predictions

    summary = write_predictions(job, sources, engine=engine, progress=terminal)
    if not summary.complete:
        if processes.rank() == 0:
            terminal.say(f"this process has finished; {job.out} is complete when all processes have finished")
        return
    if summary.resumed:
        terminal.say(f"kept {counted(summary.resumed, 'part')} from an earlier run")
    terminal.say(f"{counted(summary.rows, 'prediction')} written to {job.out}")
    if summary.unreadable:
        error = DataError(
            f"{counted(summary.unreadable, 'image')} could not be read (listed in {summary.unreadable_file}); all "
            "other "
            "images were processed"
        )
        error.speaks = True  # type: ignore[attr-defined]  # any process may be the one that completes the output
        raise error
    if job.is_file and job.form != "parquet":
        terminal.say(f"next: mlrec score {job.out} TRUTH")
