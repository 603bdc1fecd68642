"""`mlrec bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.config import LARGEST_IMAGE
from mlrec.utils.errors import UsageError


def bench(
    what: Annotated[
        str,
        typer.Argument(
            help="Benchmark to run; only 'head' (cost of each head relative to the first head) is available.",
            metavar="WHAT",
        ),
    ],
    sweeps: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Sweep folders whose heads are measured; the costs are added to the tables of these sweeps.",
            metavar="SWEEPS...",
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Name of a timm model [default: resnet101].", metavar="NAME")
    ] = None,
    heads: Annotated[
        str | None, typer.Option(help="Values of H, the number of CSRA heads [default: 1,2,4,6,8].", metavar="A,B,...")
    ] = None,
    num_labels: Annotated[int | None, typer.Option(help="Number of labels [default: 80].", min=1)] = None,
    img_size: Annotated[
        int | None,
        typer.Option(help="Side length of the square input in pixels [default: 448].", min=1, max=LARGEST_IMAGE),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Batch size.", min=2)] = 16,
    steps: Annotated[int, typer.Option(help="Number of measurements per head.", min=1)] = 10,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    json: options.Json = False,
) -> None:
    """Measure the parameter count, FLOPs and time per step of each head.

    All heads share one backbone. Each round measures an evaluation step and a training step with every head. Without
    SWEEPS, average pooling and CSRA are compared on a backbone with random weights.

    Example: mlrec bench head --backbone resnet101 --heads 1,4,8
    """
    if what != "head":
        raise UsageError(f"mlrec bench {what}: unknown benchmark; use mlrec bench head")
    from mlrec.workflows.runtime import RuntimeOptions
    from mlrec.workflows.train.bench import bench_head, bench_sweep, cost_table

    machine, terminal = RuntimeOptions(batch_size, None, device, precision), console.Terminal()
    given = {"--backbone": backbone, "--heads": heads, "--num-labels": num_labels, "--img-size": img_size}
    if sweeps:
        for flag, value in given.items():
            if value is not None:
                raise UsageError(f"{flag} cannot be used with SWEEPS, whose runs define this setting; omit {flag}")
        costs = [bench_sweep(folder, steps=steps, machine=machine, progress=terminal) for folder in sweeps]
    else:
        numbers = options.whole_numbers(heads or "1,2,4,6,8", "--heads", 1)
        costs = [
            bench_head(
                backbone or "resnet101",
                numbers,
                num_labels=num_labels or 80,
                img_size=img_size or 448,
                steps=steps,
                machine=machine,
                progress=terminal,
            )
        ]
    if json:
        contents = [one.to_dict() for one in costs]
        console.result_json(contents[0] if len(contents) == 1 else contents)
        return
    console.result_tables([cost_table(one) for one in costs])
    if sweeps:
        console.result_line(f"next: mlrec report --study {' '.join(map(str, sweeps))}")
