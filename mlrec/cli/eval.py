"""`mlrec eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.config import parse_numbers
from mlrec.utils import processes
from mlrec.utils.errors import UsageError


def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run or of an imported model, or a .safetensors [default: the last run]."),
    ] = None,
    data: options.Data = None,
    split: Annotated[str | None, typer.Option(help="Split to score [default: the run's, else test or val].")] = None,
    top3: options.Top3 = False,
    labels: options.Labels = None,
    conventions: options.Conventions = "mlrec",
    tuned: options.Tuned = False,
    localize: Annotated[
        bool,
        typer.Option("--localize", help="Compare the maps of the labels with boxes and masks (VOC, COCO, shapes)."),
    ] = False,
    tolerance: Annotated[float, typer.Option(help="Of --localize, in cells of the map.", min=0.0)] = 0.5,
    lam: Annotated[
        str | None,
        typer.Option(help="λ · maximum added to each logit at test time: 0:1:0.01 or a,b,c.", metavar="A:B:C"),
    ] = None,
    temperatures: Annotated[
        str | None, typer.Option(help="With --lam: attention of these T at test time, too; inf is the maximum.")
    ] = None,
    select_on: Annotated[
        str | None, typer.Option(help="With --lam: the split that chooses λ [default: the scored one, marked so].")
    ] = None,
    divide: Annotated[
        bool, typer.Option("--divide", help="With --lam: store logits divided by 1 + λ; both forms are scored.")
    ] = False,
    by_size: Annotated[
        bool, typer.Option("--by-size", help="AP by size and number of objects: average, λ, and attention alone.")
    ] = False,
    backbone: Annotated[
        str | None,
        typer.Option(help="Instead of a model: this timm classifier as published, on a --data of class folders."),
    ] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Of --backbone: fetch its weights.")] = False,
    weights: Annotated[
        str | None, typer.Option(help="Of --backbone: FILE or efficientnet-lite0, -lite1, -lite2.")
    ] = None,
    voc_server: Annotated[
        Path | None, typer.Option(help="Write an archive for the PASCAL VOC evaluation server.", metavar="OUT.tgz")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Of the intervals of --lam and --by-size; 0: none.", min=0)] = 1000,
    json: options.Json = False,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step [default: the training's].", min=1)] = None,
    workers: Annotated[
        int | None, typer.Option(help="Loader processes [default: one a core beside a GPU, else none].", min=0)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, tf32, bf16 or fp16.")] = "auto",
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Score a trained model anew, on its own data or on any with the same labels.

    Predictions and metrics go to a folder eval-DATA-SPLIT beside the model; labels are matched by name. With
    --localize the peak and the mass of each label's map are set beside its objects, and beside chance. With --lam
    every λ is scored from one pass (Figure 1 of the paper); all of them go to lambda-DATA-SPLIT/lambda.json.

    With --backbone a published classifier is scored on class folders (ImageNet), top-1 and top-5.

    Example: mlrec eval runs/voc2007-resnet101-csra-1 --top3
    """
    from mlrec.reports.runs_table import scored_tables
    from mlrec.runs import directory
    from mlrec.workflows.evaluate.evaluate import evaluate_run
    from mlrec.workflows.evaluate.localize import localize as run_localize
    from mlrec.workflows.evaluate.voc_server import check_name
    from mlrec.workflows.runtime import RuntimeOptions

    terminal, machine = console.Terminal(), RuntimeOptions(batch_size, workers, device, precision)
    lams = parse_numbers("0" if lam is None else lam, "--lam")
    if backbone is not None:
        if model or split or labels or top3 or tuned or localize or by_size or select_on or voc_server:
            raise UsageError("--backbone scores a published classifier: leave out the model, and what is for one")
        from mlrec.workflows.evaluate.imagenet import evaluate_published

        published = evaluate_published(
            backbone, data, lams=lams, weights=weights, pretrained=pretrained,
            machine=machine, out=runs_root, progress=terminal,
        )  # fmt: skip
        console.result_json(published.content) if json else console.result_tables([published.table])
        terminal.say(f"written to {published.path}")
        return
    if pretrained or weights is not None:
        raise UsageError("--pretrained and --weights go with --backbone: a trained model has its own weights")
    if lam is None and not by_size and (temperatures or select_on or divide):
        raise UsageError("--temperatures, --select-on and --divide go with --lam")
    if lam is not None or by_size:
        if localize or tuned or voc_server is not None:
            raise UsageError("--lam and --by-size go by themselves: leave --localize, --tuned and --voc-server out")
        from mlrec.workflows.evaluate.lambda_sweep import LambdaSweepConfig, lambda_sweep

        degrees = parse_numbers(temperatures, "--temperatures") if temperatures else ()
        question = LambdaSweepConfig(lams, degrees, select_on, divide, resamples, by_size)
        swept = lambda_sweep(
            model, question, data=data, split=split, labels=options.names(labels), conventions=conventions,
            machine=machine, runs_root=runs_root, progress=terminal,
        )  # fmt: skip
        if processes.rank() == 0:
            console.result_json(swept.content) if json else console.result_tables(swept.tables)
            terminal.say(f"written to {swept.path}")
        return
    if voc_server is not None:
        check_name(voc_server)
    found = evaluate_run(
        model,
        data=data,
        split=split,
        labels=options.names(labels),
        conventions=conventions,
        tuned=tuned,
        machine=machine,
        voc_server=voc_server,
        runs_root=runs_root,
        progress=terminal,
    )
    if processes.rank():
        return
    where = run_localize(found, tolerance=tolerance, machine=machine, progress=terminal) if localize else None
    if json:
        console.result_json(found.metrics.to_dict() | ({"localization": where.to_dict()} if where else {}))
        return
    tables = scored_tables(found.metrics, title=found.path.parent.name, top3=top3)
    console.result_tables([*tables, *(where.tables if where else ())])
    terminal.say(f"written to {found.path}")
    if not tuned and not (found.model / directory.RECORD).is_file():
        terminal.say(f"as a row of tables: mlrec report {found.path}")
