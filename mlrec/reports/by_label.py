"""AP, precision, recall and F1 by label: a column each per method, one table per block of comparable rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mlrec.metrics.precision_recall import FEW_POSITIVES
from mlrec.metrics.significance import LabelInterval
from mlrec.reports.render.table import Cell, Column, Row, Table
from mlrec.reports.results import Result
from mlrec.reports.runs_table import BOOTSTRAP_NOTE, LABEL_RATES, support_group, with_few_last

FEW = "‡"
FEW_NOTE = f"{FEW} fewer than {FEW_POSITIVES} positives: the interval covers the true value less often than 95 %"
LabelIntervals = Mapping[tuple[Path, ...], Sequence[LabelInterval]]


def label_tables(rows: Sequence[Result], intervals: LabelIntervals | None = None) -> list[Table]:
    """Return one table by label for each block of comparable results.

    Args:
        rows: Results, one column each.
        intervals: AP intervals of all labels, by `Result.paths`; None to leave them out.
    """
    blocks: dict[object, list[Result]] = {}
    for row in rows:
        blocks.setdefault(row.block, []).append(row)
    return [_block_table(members, intervals or {}) for members in blocks.values()]


def _block_table(results: Sequence[Result], intervals: LabelIntervals) -> Table:
    columns = [Column("label", "Label", identity=True), Column("positives", "positives", "count", absent="")]
    for k, name in enumerate(distinct_names(results)):
        columns.append(Column(f"ap{k}", "AP", "percent", block=name))
        columns.append(Column(f"ap{k}_low", "low", "percent", block=name, absent=""))
        columns.append(Column(f"ap{k}_high", "high", "percent", block=name, absent=""))
        columns += [replace(rate, key=f"{rate.key}{k}", block=name) for rate in LABEL_RATES]
    first = results[0]
    rows = [_label_row(label, index, results, intervals) for index, label in enumerate(first.labels)]
    notes = [" · ".join(f"{result.called}: {result.run}" for result in results)]
    if intervals:
        notes.append(BOOTSTRAP_NOTE)
    if any(row.marks for row in rows):
        notes.append(FEW_NOTE)
    title = f"AP by label: {first.dataset} {first.split}"
    table = Table(title, tuple(columns), with_few_last(rows), tuple(notes), name=f"{first.dataset} {first.split}")
    return table.without_empty_columns(["label", *(f"ap{k}" for k in range(len(results)))])


def distinct_names(results: Sequence[Result]) -> list[str]:
    """Return the short names of results; the run is added where two results have the same name."""
    uses = Counter(result.called for result in results)
    names = []
    for result in results:
        name = result.called
        if uses[name] > 1:
            name = f"{name} ({result.run})"
        names.append(name)
    return names


def _label_row(label: str, index: int, results: Sequence[Result], intervals: LabelIntervals) -> Row:
    """Return the row of a label, the `index`-th of the block."""
    cells: list[Cell] = []
    positives, few = results[0].support.get(label), False
    for k, result in enumerate(results):
        bounds: list[Cell] = [None, None]
        if result.paths in intervals:
            known = intervals[result.paths][index]
            if k == 0:
                positives, few = known.positives, known.few
            if known.interval is not None:
                bounds = [known.interval.low, known.interval.high]
        rates = result.label_rates.get(label, (None, None, None))
        cells += [result.average_precision[label], *bounds, *rates]
    marks = {1: FEW} if few else {}
    return Row((label, positives, *cells), support_group(positives), marks=marks)
