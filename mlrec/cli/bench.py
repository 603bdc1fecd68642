"""`mlrec bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.config import LARGEST_IMAGE
from mlrec.utils.errors import UsageError


def bench(
    what: Annotated[
        str,
        typer.Argument(help="What to measure: head, the cost of CSRA compared with average pooling.", metavar="WHAT"),
    ],
    backbone: Annotated[str, typer.Option(help="timm model.", metavar="NAME")] = "resnet101",
    heads: Annotated[str, typer.Option(help="Numbers of heads H.", metavar="A,B,...")] = "1,2,4,6,8",
    num_labels: Annotated[int, typer.Option(help="Number of labels.", min=1)] = 80,
    img_size: Annotated[int, typer.Option(help="Side of the input in pixels.", min=1, max=LARGEST_IMAGE)] = 448,
    batch_size: Annotated[int, typer.Option(help="Images per step.", min=2)] = 16,
    steps: Annotated[int, typer.Option(help="Number of measurements of each.", min=1)] = 10,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    json: options.Json = False,
) -> None:
    """Measure the time per step of each head.

    Steps of evaluation and of training are measured on the same backbone, in alternation.

    Example: mlrec bench head --backbone resnet101 --heads 1,4,8
    """
    if what != "head":
        raise UsageError(f"bench {what}: only head can be measured")
    numbers = options.whole_numbers(heads, "--heads", 1)
    from mlrec.workflows.runtime import RuntimeOptions
    from mlrec.workflows.train.bench import bench_head

    machine = RuntimeOptions(batch_size, None, device, precision)
    result = bench_head(
        backbone,
        numbers,
        num_labels=num_labels,
        img_size=img_size,
        steps=steps,
        machine=machine,
        progress=console.Terminal(),
    )
    if json:
        console.result_json(result.to_dict())
    else:
        console.result_tables([result.table])
