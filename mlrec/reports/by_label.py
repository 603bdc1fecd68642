"""Tables of the AP, precision, recall and F1 of each label.

Each method has its own columns, and each group of comparable results has its own table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mlrec.metrics.average_precision import GROUPS_NOTE, by_frequency, members_of_groups
from mlrec.metrics.label_significance import LabelInterval
from mlrec.metrics.precision_recall import FEW_POSITIVES
from mlrec.reports.render.table import Cell, Column, Row, Table
from mlrec.reports.results import Result
from mlrec.reports.runs_table import (
    BOOTSTRAP_NOTE,
    FREQUENCY_COLUMNS,
    LABEL_RATES,
    frequency_cells,
    support_group,
    with_few_last,
)
from mlrec.run_folders.record import training_positives

FEW = "‡"
FEW_NOTE = (
    f"{FEW} fewer than {FEW_POSITIVES} positives: the confidence interval contains the true value in fewer than 95% "
    "of "
    "cases"
)
LabelIntervals = Mapping[tuple[Path, ...], Sequence[LabelInterval]]


def label_tables(rows: Sequence[Result], intervals: LabelIntervals | None = None) -> list[Table]:
    """Return one table of per-label metrics for each group of comparable results.

    A table of the mAP by label frequency in the training split follows if all results of the group have the same
    training split, this split still exists and has all labels, and at least one label is not frequent ("head").

    Args:
        rows: Results, each of which has separate columns in its table.
        intervals: Dict from `Result.paths` to the confidence intervals for the AP of the labels; None omits the
            intervals.
    """
    blocks: dict[object, list[Result]] = {}
    for row in rows:
        blocks.setdefault(row.block, []).append(row)
    tables = []
    for members in blocks.values():
        training = training_positives([member.train for member in members], members[0].labels)
        tables.append(_block_table(members, intervals or {}, training))
        if training and set(members_of_groups(members[0].labels, training)) - {"head"}:
            tables.append(_frequency_table(members, training))
    return tables


def _frequency_table(results: Sequence[Result], training: Mapping[str, int]) -> Table:
    """Return a table of the mAP of frequent, medium and rare labels, with one column per result."""
    columns = [Column("frequency", "Labels", identity=True), Column("labels", "number", "count")]
    columns += [Column(f"ap{k}", "mAP", "percent", block=name) for k, name in enumerate(distinct_names(results))]
    groups = [by_frequency(result.average_precision, training) for result in results]
    rows = [
        Row((name, group.labels, *(of_result[name].mAP for of_result in groups))) for name, group in groups[0].items()
    ]
    title = f"mAP by frequency in training: {results[0].dataset} {results[0].split}"
    name = f"{results[0].dataset} {results[0].split} frequency"
    return Table(title, tuple(columns), tuple(rows), (GROUPS_NOTE,), name=name)


def _block_table(results: Sequence[Result], intervals: LabelIntervals, training: Mapping[str, int] | None) -> Table:
    columns = [
        Column("label", "Label", identity=True),
        Column("positives", "positives", "count", absent=""),
        *FREQUENCY_COLUMNS,
    ]
    for k, name in enumerate(distinct_names(results)):
        columns.append(Column(f"ap{k}", "AP", "percent", block=name))
        columns.append(Column(f"ap{k}_low", "low", "percent", block=name, absent=""))
        columns.append(Column(f"ap{k}_high", "high", "percent", block=name, absent=""))
        columns += [replace(rate, key=f"{rate.key}{k}", block=name) for rate in LABEL_RATES]
    first = results[0]
    rows = [_label_row(label, index, results, intervals, training) for index, label in enumerate(first.labels)]
    notes = [" · ".join(f"{result.called}: {result.run}" for result in results)]
    if intervals:
        notes.append(BOOTSTRAP_NOTE)
    if training:
        notes.append(GROUPS_NOTE)
    if any(row.marks for row in rows):
        notes.append(FEW_NOTE)
    title = f"AP by label: {first.dataset} {first.split}"
    table = Table(title, tuple(columns), with_few_last(rows), tuple(notes), name=f"{first.dataset} {first.split}")
    return table.without_empty_columns(["label", *(f"ap{k}" for k in range(len(results)))])


def distinct_names(results: Sequence[Result]) -> list[str]:
    """Return short names for results; the run name is added if two results have the same name."""
    uses = Counter(result.called for result in results)
    names = []
    for result in results:
        name = result.called
        if uses[name] > 1:
            name = f"{name} ({result.run})"
        names.append(name)
    return names


def _label_row(
    label: str,
    index: int,
    results: Sequence[Result],
    intervals: LabelIntervals,
    training: Mapping[str, int] | None,
) -> Row:
    """Return the row for the label at position `index` in the block."""
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
    return Row((label, positives, *frequency_cells(label, training), *cells), support_group(positives), marks=marks)
