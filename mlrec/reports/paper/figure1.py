"""Tables for `mlrec lambda-sweep`: metrics at selected values of λ, and mAP by object size and count."""

from __future__ import annotations

from collections.abc import Sequence

from mlrec.metrics.object_size import SizeBin
from mlrec.reports.paper.table1 import ON_SCORED, ON_SCORED_NOTE, Gain, LambdaSweep
from mlrec.reports.render.table import Cell, Column, Row, Table, shown
from mlrec.utils.errors import counted

RETRAINED = (
    "λ and T are changed only at test time, on one trained model; training with each λ may produce different results"
)
GCN = (
    "the paper does not define λ for ML-GCN; here, λ times the maximum of the ML-GCN classifiers is added to the logits"
)
SIZE_NOTES = (
    "each row excludes the positives of the other rows in the same group and keeps all negatives; compare methods "
    "within a row, not across rows",
    "scored with the mlrec conventions, which ignore the excluded positives",
    "size: fraction of the image covered by the largest object of the label (its mask if available, otherwise its box)",
    "* the 95% confidence interval of the difference (paired over images) excludes 0",
)


def lambda_table(sweep: LambdaSweep, title: str) -> Table:
    """Return a table with three rows: λ = 0, the predefined λ, and the best λ.

    Args:
        sweep: Metrics at many values of λ.
        title: Title of the table.
    """
    several = len(sweep.temperatures) > 1
    columns = (
        Column("choice", "", identity=True),
        Column("lam", "λ", "number"),
        Column("temperature", "T"),
        *(Column(key, key, "percent") for key in ("mAP", "CF1", "OF1")),
        Column("difference", "Δ mAP", "points", absent=""),
        Column("interval", "95%", absent=""),
    )
    at_zero, best = "average pooling", f"best on {sweep.split} {ON_SCORED}"
    if sweep.head == "gcn":  # this head pools by the maximum, as published
        at_zero = "as trained"
    if sweep.select_split:
        best = f"best on {sweep.select_split}"
    first = next(iter(sweep.temperatures), None)
    rows = [
        _lambda_row(sweep, "zero", at_zero, 0.0, first, None),
        _lambda_row(sweep, "fixed", "fixed", sweep.fixed_lam, first, sweep.fixed_gain),
        _lambda_row(sweep, "best", best, sweep.best_lam, sweep.best_temperature, sweep.gain),
    ]
    form = "raw logits, as in Figure 1"
    if sweep.form == "divided":
        form = "the logits are divided by 1 + λ"
    notes = [
        f"{counted(sweep.samples, 'sample')}, {counted(len(sweep.lams), 'value')} of λ, {sweep.conventions} "
        f"conventions; {form}"
    ]
    if not sweep.select_split:
        notes.append(ON_SCORED_NOTE)
    if sweep.head == "csra" or several:
        notes.append(RETRAINED)
    if sweep.head == "gcn":
        notes.append(GCN)
    table = Table(title, columns, tuple(rows), tuple(notes))
    if several:
        return table
    return table.only([k for k, column in enumerate(columns) if column.key != "temperature"])


def _lambda_row(
    sweep: LambdaSweep, key: str, name: str, lam: float, temperature: float | str | None, gain: Gain | None
) -> Row:
    metrics = sweep.metrics[key][sweep.form]
    shown_temperature = "∞"
    if isinstance(temperature, float):
        shown_temperature = f"{temperature:g}"
    difference = None
    if key != "zero":
        difference = (metrics["mAP"] or 0.0) - (sweep.metrics["zero"][sweep.form]["mAP"] or 0.0)
    interval = None if gain is None else bounds_text(gain.low, gain.high)
    values = (metrics["mAP"], metrics["CF1"], metrics["OF1"])
    return Row((name, lam, shown_temperature, *values, difference, interval))


def bounds_text(low: float, high: float) -> str:
    """Format the bounds of a confidence interval for a difference, in percentage points.

    Example:
        >>> bounds_text(-0.01, 0.02)
        '−1.0 to +2.0'
    """
    return f"{shown(low, 'points')} to {shown(high, 'points')}"


def size_table(
    size_bins: Sequence[SizeBin],
    names: Sequence[str],
    title: str = "AP by size and number of objects",
    *,
    seeds: Sequence[int] = (),
) -> Table:
    """Return a table with the mAP of each method by object size or number of objects.

    The table also contains the difference between each other method and the first method.

    Args:
        size_bins: Bins of object size or object count, one per row.
        names: Names of the methods.
        title: Title of the table.
        seeds: Number of runs of each method; by default, one run per method.
    """
    columns = [
        Column("objects", "Objects", identity=True),
        Column("pairs", "pairs", "count"),
        Column("labels", "labels", "count"),
        Column("mAP_0", names[0], "percent"),
    ]
    for k, name in enumerate(names[1:], 1):
        columns += [
            Column(f"mAP_{k}", "mAP", "percent", block=name),
            Column(f"difference_{k}", "Δ", "points", block=name),
            Column(f"interval_{k}", "95%", block=name),
        ]
    rows = []
    for size_bin in size_bins:
        cells = (size_bin.name, size_bin.pairs, size_bin.labels, size_bin.mAP[0], *_differences(size_bin))
        rows.append(Row(cells, f"by {size_bin.kind}"))
    return Table(title, tuple(columns), tuple(rows), (*SIZE_NOTES, _seeds_note(seeds)))


def _seeds_note(seeds: Sequence[int]) -> str:
    if min(seeds, default=1) > 1:
        runs = ", ".join(map(str, seeds))
        return (
            f"n = {runs} runs; mAP is the mean over runs, and the confidence intervals resample both seeds and images"
        )
    return "the confidence intervals describe these trained models, not the methods; other seeds may differ more"


def _differences(size_bin: SizeBin) -> list[Cell]:
    """Return the mAP, difference and interval of all methods except the first, which is the baseline."""
    cells: list[Cell] = []
    for mAP, gain in zip(size_bin.mAP[1:], size_bin.gains, strict=True):
        if gain is None:
            cells += [mAP, None, None]
            continue
        interval = bounds_text(gain.low, gain.high)
        if gain.excludes_zero:
            interval += "*"
        cells += [mAP, gain.value, interval]
    return cells
