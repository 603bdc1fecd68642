"""What `mlrec eval --lam` shows: λ = 0, the fixed λ and the best one, with intervals; and AP by size and number."""

from __future__ import annotations

from collections.abc import Sequence

from mlrec.metrics.intervals import Interval
from mlrec.metrics.object_size import SizeBin
from mlrec.reports.paper.table1 import ON_SCORED, ON_SCORED_NOTE, Gain, LambdaSweep
from mlrec.reports.render.table import Cell, Column, Row, Table, shown
from mlrec.utils.errors import counted

RETRAINED = "λ and T are changed at test time alone, on one trained model: another question than training with each"
GCN = "the paper does not say how it put λ on ML-GCN: here its own logits + λ times its classifiers' maximum"
STRATA_NOTES = (
    "positives of the other rows of a block are left out, all negatives stay: compare methods in a row, not rows",
    "scored as conventions mlrec, in which what is left out counts nowhere",
    "size: share of the image that the largest object of the label covers, of its mask where there is one",
    "* the 95 % interval, paired over images, leaves out 0",
)


def lambda_table(sweep: LambdaSweep, title: str) -> Table:
    """Three rows: without λ, at the one fixed beforehand, at the best."""
    columns = (
        Column("choice", "", identity=True),
        Column("lam", "λ", "number"),
        *([Column("temperature", "T")] if len(sweep.temperatures) > 1 else []),
        *(Column(key, key, "percent") for key in ("mAP", "CF1", "OF1")),
        Column("difference", "Δ mAP", "points", absent=""),
        Column("interval", "95 %", absent=""),
    )
    chosen = f"best on {sweep.select_split}" if sweep.select_split else f"best on {sweep.split} {ON_SCORED}"
    first = sweep.temperatures[0] if sweep.temperatures else None
    rows = [  # the gcn head has its own pooling, the maximum as published
        _row(sweep, "zero", "as trained" if sweep.head == "gcn" else "average pooling", 0.0, first, None),
        _row(sweep, "fixed", "fixed", sweep.fixed_lam, first, sweep.fixed_gain),
        _row(sweep, "best", chosen, sweep.best_lam, sweep.best_temperature, sweep.gain),
    ]
    form = "logits divided by 1 + λ" if sweep.form == "divided" else "raw logits, as Figure 1"
    notes = [
        f"{counted(sweep.samples, 'sample')}, {counted(len(sweep.lams), 'value')} of λ, {sweep.conventions}; {form}"
    ]
    notes += [] if sweep.select_split else [ON_SCORED_NOTE]
    notes += [RETRAINED] if sweep.head == "csra" or len(sweep.temperatures) > 1 else []
    notes += [GCN] if sweep.head == "gcn" else []
    return Table(title, columns, tuple(rows), tuple(notes))


def _row(
    sweep: LambdaSweep, key: str, name: str, lam: float, temperature: float | str | None, gain: Gain | None
) -> Row:
    found = sweep.metrics[key][sweep.form]
    told = f"{temperature:g}" if isinstance(temperature, float) else "∞"
    degree: list[Cell] = [told] if len(sweep.temperatures) > 1 else []
    between = None if gain is None else f"{shown(gain.low, 'points')} to {shown(gain.high, 'points')}"
    difference = None if key == "zero" else (found["mAP"] or 0.0) - (sweep.metrics["zero"][sweep.form]["mAP"] or 0.0)
    return Row((name, lam, *degree, found["mAP"], found["CF1"], found["OF1"], difference, between))


def size_table(
    strata: Sequence[SizeBin],
    names: Sequence[str],
    title: str = "AP by size and number",
    *,
    seeds: Sequence[int] = (),
) -> Table:
    """A row a stratum: mAP of each method, and of all but the first the difference to it; `seeds`: runs of each."""
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
            Column(f"interval_{k}", "95 %", block=name),
        ]
    rows = [Row((s.name, s.pairs, s.labels, s.mAP[0], *_compared(s)), f"by {s.kind}") for s in strata]
    return Table(title, tuple(columns), tuple(rows), (*STRATA_NOTES, _seeds_note(seeds)))


def _seeds_note(seeds: Sequence[int]) -> str:
    if min(seeds, default=1) > 1:
        return f"n = {', '.join(map(str, seeds))} runs: mAP is their mean, and intervals draw seeds as well as images"
    return "intervals are about these trained models, not about the methods: other seeds may differ more"


def _compared(stratum: SizeBin) -> list[Cell]:
    cells: list[Cell] = []
    for mAP, gain in zip(stratum.mAP[1:], stratum.gains, strict=True):
        cells += [mAP, None if gain is None else gain.value, _between(gain)]
    return cells


def _between(gain: Interval | None) -> str | None:
    if gain is None:
        return None
    star = "*" if gain.excludes_zero else ""
    return f"{shown(gain.low, 'points')} to {shown(gain.high, 'points')}{star}"
