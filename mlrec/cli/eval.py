"""`mlrec eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.utils import processes
from mlrec.utils.progress import first_process_logs

VocServer = Annotated[
    Path | None, typer.Option(help="Output archive for the PASCAL VOC evaluation server.", metavar="OUT.tgz")
]


def evaluate(
    model: options.TrainedModel = None,
    data: options.Data = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split to evaluate on [default: the split of the run; if the dataset has no such split, test or val]."
        ),
    ] = None,
    top3: options.Top3 = False,
    top: options.Top = None,
    labels: options.Labels = None,
    conventions: options.Conventions = "mlrec",
    tuned: options.Tuned = False,
    tta: Annotated[
        str | None,
        typer.Option(
            help="Test-time augmentation views: flip, input scales, or both, such as flip,1,1.25.", metavar="VIEWS"
        ),
    ] = None,
    localize: Annotated[
        bool,
        typer.Option(
            "--localize", help="Compare heat maps with object boxes and masks (only for VOC, COCO and shapes)."
        ),
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            help="Maximum distance between a heat-map peak and an object, in heat-map cells (only with --localize).",
            min=0.0,
        ),
    ] = 0.5,
    voc_server: VocServer = None,
    json: options.Json = False,
    full: options.Full = False,
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Evaluate a trained model.

    If there are more than 20 labels, only the lowest and highest AP values are printed, unless --full is set.

    By default, the model is evaluated on the dataset of its run; use --data to select another dataset with the same
    label names. The metrics and the predictions for all labels are written to the folder eval-DATA-SPLIT in the model
    folder, or next to the model file. An existing folder is replaced. Heat maps can be misleading; use --localize to
    measure how well they match the objects.

    Example: mlrec eval runs/voc2007-resnet101-csra-1 --top3
    """
    from mlrec.reports.runs_table import scored_tables
    from mlrec.run_folders import directory
    from mlrec.workflows.evaluate.evaluate import evaluate_run
    from mlrec.workflows.runtime import RuntimeOptions

    if voc_server is not None:
        from mlrec.workflows.evaluate.voc_server import check_name

        check_name(voc_server)
    terminal, machine = console.Terminal(), RuntimeOptions(batch_size, workers, device, precision, tta)
    with first_process_logs():
        model = options.model_or_last(model, runs_root)
    evaluation = evaluate_run(
        model,
        data=data,
        split=split,
        labels=options.names(labels),
        conventions=conventions,
        tuned=tuned,
        top=top,
        machine=machine,
        voc_server=voc_server,
        progress=terminal,
    )
    if processes.rank() != 0:  # only the first process prints
        return
    localization = None
    if localize:
        from mlrec.workflows.evaluate.localize import localize as run_localize

        localization = run_localize(evaluation, tolerance=tolerance, machine=machine, progress=terminal)
    if json:
        maps = {}
        if localization is not None:
            maps = {"localization": localization.to_dict()}
        console.result_json(evaluation.metrics.to_dict() | maps)
        return
    tables = scored_tables(
        evaluation.metrics, title=evaluation.path.parent.name, top3=top3, all_labels=full, training=evaluation.training
    )
    console.result_tables([*tables, *(localization.tables if localization else ())], full=full)
    terminal.say(f"written to {evaluation.path}")
    if not tuned and tta is None and not (evaluation.model / directory.RECORD).is_file():
        terminal.say(f"next: run mlrec report {evaluation.path} to print this result as a table row")
    else:
        terminal.say("next: mlrec report")
