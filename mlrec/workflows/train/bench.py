"""`mlrec bench head`: measure the cost of heads on the same backbone.

The measurement corresponds to the paper's timing comparison (§4.4).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlrec.metrics.intervals import median_interval
from mlrec.reports.paper.published import paper_settings
from mlrec.reports.render.table import Column, Row, Table
from mlrec.run_folders.head_costs import HeadCost, HeadCosts, Ratio
from mlrec.run_folders.record import Run
from mlrec.run_folders.sweep_file import SweepFile, finished_run
from mlrec.utils.errors import RunError, UsageError, counted
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.runtime import RuntimeOptions

if TYPE_CHECKING:
    from torch import nn

    from mlrec.models.backbones import Backbone

BATCH = 16  # images per step, unless the user chooses
COLUMNS = (
    Column("head", "Head", identity=True),
    Column("parameters", "parameters", "count", block="head"),
    Column("mflops", "MFLOPs", "mean", block="head"),
    Column("forward", "ms", "seconds", block="evaluation"),
    Column("forward_ratio", "ratio", block="evaluation", absent=""),
    Column("training", "ms", "seconds", block="training"),
    Column("training_ratio", "ratio", block="training", absent=""),
)


def bench_head(
    backbone: str = "resnet101",
    heads: Sequence[int] = (1, 2, 4, 6, 8),
    *,
    num_labels: int = 80,
    img_size: int = 448,
    steps: int = 10,
    machine: RuntimeOptions | None = None,
    progress: Progress = SILENT,
) -> HeadCosts:
    """Measure the cost of models that differ only in the head: average pooling, and CSRA for each value of H.

    Args:
        backbone: Name of a timm model. The weights are random, because weights do not affect the cost.
        heads: Values of H, the number of CSRA heads.
        num_labels: Number of labels C.
        img_size: Side length of the input in pixels.
        steps: Number of measurements per model.
        machine: Runtime options: batch size [default: 16], device and precision.
        progress: Progress display.

    Raises:
        UsageError: `steps` is less than 1, `heads` is empty, or the device or precision is not available.
        MlrecError: The backbone is unknown, or the paper has no temperatures for a value of H.
    """
    if steps < 1 or not heads:
        raise UsageError("bench head requires at least one step and one value of H; set --steps and --heads")
    import torch

    from mlrec.models.backbones import Backbone
    from mlrec.models.classifier import create_head

    kinds: dict[str, dict[str, Any]] = {"average pooling": {"name": "average"}}
    for number in heads:
        kinds[f"CSRA, H = {number}"] = {"name": "csra", "heads": number, "lam": 0.5}
    torch.manual_seed(0)
    body = Backbone(backbone, img_size)
    modules = [create_head(**kind, in_features=body.num_features, num_labels=num_labels) for kind in kinds.values()]
    named = [(name, "") for name in kinds]
    return _measure(body, modules, named, num_labels, steps=steps, machine=machine, progress=progress)


def bench_sweep(
    folder: Path, *, steps: int = 10, machine: RuntimeOptions | None = None, progress: Progress = SILENT
) -> HeadCosts:
    """Measure the cost of the head in each row of a sweep that has a finished run.

    The result is written to the sweep folder for `mlrec report --study`.

    Args:
        folder: Folder of a sweep. The measured rows must have the same backbone, input size and number of labels.
        steps: Number of measurements per model.
        machine: Runtime options: batch size [default: 16], device and precision.
        progress: Progress display.

    Raises:
        RunError: The folder contains no sweep, no row has a finished run, or the rows differ in the backbone, the
            input size or the number of labels.
    """
    runs = _first_runs(folder)
    models = [run.load_model() for _, run in runs]
    bodies = {(model.backbone.name, model.preprocessing.size, len(model.labels)) for model in models}
    if len(bodies) > 1:
        raise RunError(
            f"{folder}: the rows differ in backbone, input size or labels, so their heads cannot be compared; choose "
            "a sweep in which only the head differs"
        )
    first = models[0]
    named = [(name, run.path.name) for name, run in runs]
    costs = _measure(
        first.backbone,
        [model.head for model in models],
        named,
        len(first.labels),
        steps=steps,
        machine=machine,
        progress=progress,
    )
    costs.save(folder)
    return costs


def _first_runs(folder: Path) -> list[tuple[str, Run]]:
    """Return the name and the first finished run of each row in a sweep.

    Rows without a finished run are omitted.
    """
    sweep, runs = SweepFile.load(folder), []
    for entries in sweep.settings():
        finished = [run for entry in entries if (run := finished_run(folder / entry.name)) is not None]
        if finished:
            values = {key: value for key, value in entries[0].values.items() if key not in sweep.tuned}
            name = entries[0].label or ", ".join(f"{key} = {value}" for key, value in values.items())
            runs.append((name, finished[0]))
    if not runs:
        raise RunError(f"{folder}: no run of this sweep is finished; run the same mlrec sweep command again")
    return runs


def _measure(
    backbone: Backbone,
    heads: Sequence[nn.Module],
    names: Sequence[tuple[str, str]],
    num_labels: int,
    *,
    steps: int,
    machine: RuntimeOptions | None,
    progress: Progress,
) -> HeadCosts:
    """Measure the costs of heads; `names` contains the table name and the run name of each head."""
    from mlrec.run_folders.record import environment
    from mlrec.training.devices import resolve_device, resolve_precision
    from mlrec.training.timing import head_flops, time_heads

    options = machine or RuntimeOptions()
    device = resolve_device(options.device)
    precision = resolve_precision(options.precision, device)
    batch_size = options.batch_size or BATCH
    backbone_flops, flops = head_flops(backbone, heads)
    measured = time_heads(
        backbone,
        heads,
        num_labels=num_labels,
        batch_size=batch_size,
        steps=steps,
        device=device,
        precision=precision,
        progress=progress,
    )
    first, costs = measured[0], []
    for k, ((name, run), head, seconds) in enumerate(zip(names, heads, measured, strict=True)):
        costs.append(
            HeadCost(
                head=name,
                run=run,
                parameters=parameters_of(head),
                flops=flops[k],
                forward_ms=1000 * statistics.median(seconds.forward),
                training_ms=1000 * statistics.median(seconds.training),
                forward_ratio=_ratio(seconds.forward, first.forward) if k else None,
                training_ratio=_ratio(seconds.training, first.training) if k else None,
            )
        )
    return HeadCosts(
        backbone=backbone.name.partition(".")[0],  # without the tag of its weights, which do not matter here
        img_size=backbone.preprocessing.size,
        num_labels=num_labels,
        batch_size=batch_size,
        steps=steps,
        backbone_parameters=parameters_of(backbone),
        backbone_flops=backbone_flops,
        environment=environment(device, precision),
        heads=costs,
    )


def parameters_of(module: nn.Module) -> int:
    """Return the number of learnable parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _ratio(own: Sequence[float], base: Sequence[float]) -> Ratio:
    return median_interval([a / b for a, b in zip(own, base, strict=True)])


def cost_table(costs: HeadCosts) -> Table:
    """Return the costs as a table with footnotes about the measurement.

    Args:
        costs: Measured costs.
    """
    where = costs.environment
    notes = [
        f"{costs.backbone} ({costs.backbone_parameters:,} parameters, {costs.backbone_flops / 1e6:,.0f} MFLOPs), "
        f"{costs.img_size} px, {counted(costs.num_labels, 'label')}, batches of {costs.batch_size}, "
        f"{counted(costs.steps, 'step')} per row (rows measured alternately), {where.get('gpu', where['device'])}, "
        f"{where['precision']}, {counted(where['threads'], 'thread')}, torch {where['torch']}, without image loading",
        "ms: time per step of the whole model; ratio: median of the paired ratios to the first row, with 95% "
        "confidence interval",
        "MFLOPs: convolutions and matrix products in the forward pass for one image; a multiplication and an addition "
        "count as two FLOPs",
    ]
    if not costs.heads[0].run:
        notes.append(_printed())
    return Table("Cost of the head", COLUMNS, tuple(map(_row, costs.heads)), tuple(notes))


def _row(cost: HeadCost) -> Row:
    times = (cost.forward_ms, _shown(cost.forward_ratio), cost.training_ms, _shown(cost.training_ratio))
    return Row((cost.head, cost.parameters, cost.flops / 1e6, *times))


def _shown(ratio: Ratio | None) -> str | None:
    if ratio is None:
        return None
    return "{:.3f} ({:.3f} to {:.3f})".format(*ratio)


def _printed() -> str:
    """Return the paper's timing comparison."""
    timing = paper_settings()["timing"]
    parts = [
        f"{name} {without} → {with_csra} s ({with_csra / without - 1:+.1%})"
        for name in ("training", "test")
        for without, with_csra in [timing[name]]
    ]
    return (
        f"paper, COCO, H = {timing['heads']}: {', '.join(parts)}; backbone and GPU are not stated; times include image "
        "loading"
    )
