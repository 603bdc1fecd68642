"""AP of each label: a column a method, one table for each block of comparable rows, with intervals where asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlrec.metrics.significance import FEW_POSITIVES, LabelInterval
from mlrec.reports.render.table import Cell, Column, Row, Table
from mlrec.reports.results import Result
from mlrec.reports.runs_table import BOOTSTRAP_NOTE

FEW = "‡"
FEW_NOTE = f"{FEW} fewer than {FEW_POSITIVES} positives: the interval holds the truth less often than it says"
LabelIntervals = Mapping[tuple[Path, ...], Sequence[LabelInterval]]


def label_tables(rows: Sequence[Result], intervals: LabelIntervals | None = None) -> list[Table]:
    """The labels of each block in their order; `intervals`, by `Result.paths`, are those of its labels."""
    blocks: dict[object, list[Result]] = {}
    for row in rows:
        blocks.setdefault(row.block, []).append(row)
    return [_block(members, intervals or {}) for members in blocks.values()]


def _block(rows: Sequence[Result], intervals: LabelIntervals) -> Table:
    shared = Counter(row.called for row in rows)
    columns = [Column("label", "Label", identity=True), Column("positives", "positives", "count", absent="")]
    for k, row in enumerate(rows):
        name = row.called if shared[row.called] == 1 else f"{row.called} ({row.run})"
        columns += [
            Column(f"ap{k}", "AP" if intervals else name, "percent", block=name if intervals else ""),
            Column(f"ap{k}_low", "low", "percent", block=name, absent=""),
            Column(f"ap{k}_high", "high", "percent", block=name, absent=""),
        ]
    first = rows[0]
    found = [_row(label, place, rows, intervals) for place, label in enumerate(first.labels)]
    notes = [" · ".join(f"{row.called}: {row.run}" for row in rows)]
    notes += [BOOTSTRAP_NOTE] if intervals else []
    notes += [FEW_NOTE] if any(row.marks for row in found) else []
    table = Table(f"AP by label: {first.dataset} {first.split}", tuple(columns), tuple(found), tuple(notes))
    return table.without_empty_columns(["label", *(f"ap{k}" for k in range(len(rows)))])


def _row(label: str, place: int, rows: Sequence[Result], intervals: LabelIntervals) -> Row:
    known = [intervals[row.paths][place] if row.paths in intervals else None for row in rows]
    cells: list[Cell] = [label, known[0].positives if known[0] else None]
    for row, one in zip(rows, known, strict=True):
        found = one.interval if one else None
        cells += [row.average_precision[label], *((found.low, found.high) if found else (None, None))]
    few = known[0] is not None and known[0].few
    return Row(tuple(cells), marks={1: FEW} if few else {})
