"""`mlrec bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.config import LARGEST_IMAGE
from mlrec.utils.errors import UsageError, printable


def bench(
    what: Annotated[str, typer.Argument(help="head: what CSRA costs beside average pooling.")],
    backbone: Annotated[str, typer.Option(help="A timm name.")] = "resnet101",
    heads: Annotated[str, typer.Option(help="The H to time.", metavar="A,B,...")] = "1,2,4,6,8",
    num_labels: Annotated[int, typer.Option(help="Labels.", min=1)] = 80,
    img_size: Annotated[int, typer.Option(help="Side of the input in pixels.", min=1, max=LARGEST_IMAGE)] = 448,
    batch_size: Annotated[int, typer.Option(help="Images a step.", min=2)] = 16,
    steps: Annotated[int, typer.Option(help="Measurements of each.", min=1)] = 10,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, tf32, bf16 or fp16.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, and only that.")] = False,
) -> None:
    """Time a step of evaluation and of training with each head on the same backbone, in alternation.

    Example: mlrec bench head --backbone resnet101 --heads 1,4,8
    """
    if what != "head":
        raise UsageError(f"bench {printable(what)}: what can be timed is: head")
    numbers = options.whole_numbers(heads, "--heads", 1)
    from mlrec.workflows.runtime import RuntimeOptions
    from mlrec.workflows.train.bench import bench_head

    machine = RuntimeOptions(batch_size, None, device, precision)
    found = bench_head(
        backbone, numbers, num_labels=num_labels, img_size=img_size, steps=steps, machine=machine,
        progress=console.Terminal(),
    )  # fmt: skip
    if json:
        console.result_json(found.to_dict())
    else:
        console.result_tables([found.table])
