"""`mlrec bench head`: what CSRA costs compared with average pooling, as the paper's timing comparison (§4.4)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlrec.metrics.intervals import median_interval
from mlrec.reports.paper.published import paper_settings
from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils.errors import UsageError, counted
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.runtime import RuntimeOptions

COLUMNS = (
    Column("head", "Head", identity=True),
    Column("forward", "ms", "seconds", block="evaluation"),
    Column("forward_ratio", "ratio", block="evaluation", absent=""),
    Column("training", "ms", "seconds", block="training"),
    Column("training_ratio", "ratio", block="training", absent=""),
)


@dataclass(frozen=True)
class Cost:
    """Median milliseconds of one head, and medians of its paired ratios to average pooling with 95 % intervals."""

    head: str
    forward_ms: float
    training_ms: float
    forward_ratio: tuple[float, float, float] | None
    training_ratio: tuple[float, float, float] | None


@dataclass(frozen=True)
class HeadCosts:
    """What was timed under which conditions, the costs with average pooling first, and how they are shown."""

    conditions: dict[str, Any]
    costs: list[Cost]
    table: Table

    def to_dict(self) -> dict[str, Any]:
        """What `bench head --json` prints."""
        return self.conditions | {"heads": [asdict(cost) for cost in self.costs]}


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
    """Time whole models that differ in the head alone: average pooling, and CSRA with each H.

    Args:
        backbone: a timm name; its weights do not matter and are drawn.
        heads: the H to time.
        num_labels: C.
        img_size: side of the input in pixels.
        steps: measurements of each.
        machine: batch size (16), device and precision.
        progress: Receiver of bars.

    Raises:
        MlrecError: unknown backbone, or H without temperatures in the paper.
    """
    from mlrec.run_folders.record import environment
    from mlrec.training.devices import resolve_device, resolve_precision
    from mlrec.training.timing import time_heads

    if steps < 1 or not heads:
        raise UsageError("bench head: at least one step and one H")
    how = machine or RuntimeOptions()
    device = resolve_device(how.device)
    precision = resolve_precision(how.precision, device)
    kinds: list[dict[str, Any]] = [{"name": "average"}, *({"name": "csra", "heads": h, "lam": 0.5} for h in heads)]
    size, found = time_heads(
        backbone,
        kinds,
        num_labels=num_labels,
        img_size=img_size,
        batch_size=how.batch_size or 16,
        steps=steps,
        device=device,
        precision=precision,
        progress=progress,
    )
    costs = []
    for kind, seconds in zip(kinds, found, strict=True):
        first = kind is kinds[0]
        ratios = [
            None if first else median_interval([a / b for a, b in zip(own, base, strict=True)])
            for own, base in ((seconds.forward, found[0].forward), (seconds.training, found[0].training))
        ]
        name = "average pooling"
        if not first:
            name = f"CSRA, H = {kind['heads']}"
        forward, training = (1000 * statistics.median(values) for values in (seconds.forward, seconds.training))
        costs.append(Cost(name, forward, training, *ratios))
    where = environment(device, precision)
    conditions = {
        "backbone": backbone,
        "img_size": size,
        "num_labels": num_labels,
        "batch_size": how.batch_size or 16,
        "steps": steps,
        **where,
    }
    facts = (
        f"{backbone}, {size} px, {counted(num_labels, 'label')}, batches of {conditions['batch_size']}, "
        f"{counted(steps, 'step')} of each in "
        f"alternation; {where.get('gpu', where['device'])}, {precision}, {counted(where['threads'], 'thread')}, torch "
        f"{where['torch']}; images are not loaded"
    )
    table = Table("Cost of the head", COLUMNS, tuple(map(_row, costs)), (facts, _printed()))
    return HeadCosts(conditions, costs, table)


def _row(cost: Cost) -> Row:
    cells = (cost.forward_ms, _shown(cost.forward_ratio), cost.training_ms, _shown(cost.training_ratio))
    return Row((cost.head, *cells))


def _shown(ratio: tuple[float, float, float] | None) -> str | None:
    if ratio is not None:
        return "{:.3f} ({:.3f} to {:.3f})".format(*ratio)
    return None


def _printed() -> str:
    """The paper's own comparison."""
    timing = paper_settings()["timing"]
    parts = [
        f"{name} {without} → {with_csra} s ({with_csra / without - 1:+.1%})"
        for name in ("training", "test")
        for without, with_csra in [timing[name]]
    ]
    return f"paper, COCO, H = {timing['heads']}: {', '.join(parts)}; backbone and GPU not stated, with image loading"
