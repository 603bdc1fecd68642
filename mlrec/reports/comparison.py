"""Paired bootstrap comparison of two methods, for each metric and each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.metrics.average_precision import GROUPS_NOTE, members_of_groups
from mlrec.metrics.bootstrap import METRICS, Bootstrap, Estimate
from mlrec.metrics.conventions import conventions_named
from mlrec.metrics.intervals import Interval
from mlrec.metrics.label_significance import LabelTest, tests_of
from mlrec.predictions import Floats
from mlrec.reports.by_label import FEW, FEW_NOTE
from mlrec.reports.render.table import UNDEFINED, Column, Row, Table, percent
from mlrec.reports.runs_table import FREQUENCY_COLUMNS, frequency_cells
from mlrec.utils.errors import counted

ALPHA = 0.05
TOO_FEW = 10  # positives: with one, resamples of a label hardly differ, and any difference would look certain
SAME = "not distinguishable"


@dataclass(frozen=True)
class Side:
    """One of the two methods in a comparison.

    Attributes:
        name: Name of the method in tables.
        scores: One (N, C) score array per run. Rows and columns have the same order for both methods.
        threshold: Minimum score of a predicted label. The default is 0, for logits; use 0.5 for probabilities.
        models: Folder of the trained model of each run; empty if unknown.
    """

    name: str
    scores: Sequence[Floats]
    threshold: float = 0.0
    models: Sequence[Path] = ()


@dataclass(frozen=True)
class Comparison:
    """Metrics of two methods and their differences, with bootstrap confidence intervals.

    Attributes:
        ours: Metrics of method A.
        theirs: Metrics of method B.
        difference: Metrics of A minus metrics of B.
        labels: Test of the AP difference for each label.
    """

    ours: Estimate
    theirs: Estimate
    difference: Estimate
    labels: tuple[LabelTest, ...]


def compare(
    ours: Side, theirs: Side, targets: NDArray[np.int8], labels: Sequence[str], bootstrap: Bootstrap
) -> Comparison:
    """Compare two methods on the same bootstrap resamples of the images.

    If a method has multiple runs (seeds), the runs are also resampled. If both methods evaluate the same models, for
    example with and without test-time augmentation, the same runs are drawn for both.

    Args:
        ours: Method A.
        theirs: Method B.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown).
        labels: Names of the C labels.
        bootstrap: Bootstrap settings and scoring conventions.
    """
    a = replace(bootstrap, threshold=ours.threshold).estimate(list(ours.scores), 0)
    draw_of_seeds = 0 if _same_models(ours, theirs) else 1
    b = replace(bootstrap, threshold=theirs.threshold).estimate(list(theirs.scores), draw_of_seeds)
    difference = a.minus(b)
    return Comparison(a, b, difference, tuple(tests_of(difference, targets, labels)))


def _same_models(ours: Side, theirs: Side) -> bool:
    return bool(ours.models) and list(ours.models) == list(theirs.models)


def comparison_tables(
    ours: Side,
    theirs: Side,
    comparison: Comparison,
    bootstrap: Bootstrap,
    *,
    what: str,
    training: Mapping[str, int] | None = None,
) -> list[Table]:
    """Return two tables of the differences A − B: one with a row per metric, and one with a row per label.

    Between them is a table with one row per frequency group if `training` is set and at least one label is not frequent
    ("head").

    Args:
        ours: Method A.
        theirs: Method B.
        comparison: Comparison of the two methods.
        bootstrap: Bootstrap settings of the comparison.
        what: Description of the samples and labels, used in the title.
        training: Number of positive samples of each label in the training split that all runs share; None if there is
            no such split, or it is unknown.
    """
    names = (f"A {ours.name}", f"B {theirs.name}")
    notes = _notes(ours, theirs, comparison, bootstrap)
    title = f"A − B on {what}: {verdict(comparison)}"
    tables = [
        Table(title, _metric_columns("Metric"), _metric_rows(comparison), (*names, *notes), name="metrics"),
        _label_table(comparison, training),
    ]
    if training is not None:
        groups = members_of_groups([test.label for test in comparison.labels], training)
        if set(groups) - {"head"}:
            tables.insert(1, _frequency_table(comparison, groups))
    return tables


def _frequency_table(comparison: Comparison, groups: Mapping[str, Sequence[str]]) -> Table:
    """Return a table of the mAP of frequent, medium and rare labels, with intervals for the differences."""
    position = {test.label: column for column, test in enumerate(comparison.labels)}
    rows = []
    for name, labels in groups.items():
        columns = [position[label] for label in labels]
        sides = (comparison.ours, comparison.theirs, comparison.difference)
        a, b, difference = (side.labels_mean(columns) for side in sides)
        significant = difference is not None and difference.excludes_zero
        rows.append(Row((name, len(labels), *_values(a, b, difference), _finding(difference, significant=significant))))
    heading, *others = _metric_columns("Labels")
    columns_shown = (replace(heading, key="frequency"), Column("labels", "number", "count"), *others)
    return Table("A − B by frequency in training (mAP)", columns_shown, tuple(rows), (GROUPS_NOTE,), name="frequency")


def _label_table(comparison: Comparison, training: Mapping[str, int] | None) -> Table:
    notes = _label_notes()
    if training is not None:
        notes = (*notes, GROUPS_NOTE)
    table = Table("A − B by label (AP)", _label_columns(), _label_rows(comparison, training), notes, name="labels")
    empty = {column.key for column in FREQUENCY_COLUMNS if training is None}
    return table.only([k for k, column in enumerate(table.columns) if column.key not in empty])


def verdict(comparison: Comparison) -> str:
    """Return the result for mAP as text, such as "A is higher" or "not distinguishable"."""
    interval = comparison.difference.metric("mAP")
    if interval is None:
        return "mAP is undefined"
    ends = f"95% interval {percent(interval.low)} to {percent(interval.high)} points of mAP"
    if not interval.excludes_zero:
        return f"{SAME}, {ends}"
    if interval.value > 0:
        return f"A is higher, {ends}"
    return f"A is lower, {ends}"


_VALUE_COLUMNS = (
    Column("a", "A", "percent"),
    Column("b", "B", "percent"),
    Column("difference", "A − B", "points"),
    Column("low", "low", "points", block="95%"),
    Column("high", "high", "points", block="95%"),
)


def _metric_columns(title: str) -> tuple[Column, ...]:
    return (Column("metric", title, identity=True), *_VALUE_COLUMNS, Column("finding", "Finding"))


def _label_columns() -> tuple[Column, ...]:
    return (
        Column("label", "Label", identity=True),
        Column("positives", "positives", "count"),
        *FREQUENCY_COLUMNS,
        *_VALUE_COLUMNS,
        Column("p", "p", "p"),
        Column("p_holm", "p Holm", "p"),
        Column("finding", "Finding"),
    )


def _metric_rows(comparison: Comparison) -> tuple[Row, ...]:
    rows = []
    for name in METRICS:
        difference = comparison.difference.metric(name)
        significant = difference is not None and difference.excludes_zero
        values = _values(comparison.ours.metric(name), comparison.theirs.metric(name), difference)
        rows.append(Row((name, *values, _finding(difference, significant=significant))))
    return tuple(rows)


def _label_rows(comparison: Comparison, training: Mapping[str, int] | None) -> tuple[Row, ...]:
    rows = []
    for column, test in enumerate(comparison.labels):
        values = _values(comparison.ours.label(column), comparison.theirs.label(column), test.interval)
        finding = UNDEFINED
        if test.p_holm is not None and test.positives < TOO_FEW:
            finding = f"too few positives ({test.positives})"
        elif test.p_holm is not None:
            finding = _finding(test.interval, significant=test.p_holm < ALPHA)
        marks = {1: FEW} if test.few else {}
        names = (test.label, test.positives, *frequency_cells(test.label, training))
        rows.append(Row((*names, *values, test.p, test.p_holm, finding), marks=marks))
    return tuple(rows)


def _values(a: Interval | None, b: Interval | None, difference: Interval | None) -> tuple[float | None, ...]:
    """Return the cells of a table row for the columns `_VALUE_COLUMNS`."""
    if difference is None:
        return (_value(a), _value(b), None, None, None)
    return (_value(a), _value(b), difference.value, difference.low, difference.high)


def _value(interval: Interval | None) -> float | None:
    if interval is None:
        return None
    return interval.value


def _finding(difference: Interval | None, *, significant: bool) -> str:
    if difference is None:
        return UNDEFINED
    if not significant:
        return SAME
    if difference.value > 0:
        return "A higher"
    return "A lower"


def _notes(ours: Side, theirs: Side, comparison: Comparison, bootstrap: Bootstrap) -> tuple[str, ...]:
    number = comparison.difference.units
    samples = len(np.asarray(bootstrap.targets))
    units = counted(number, "image")
    if number != samples:
        units += f" ({counted(samples, 'sample')})"
    runs = f"n = {len(ours.scores)} and {counted(len(theirs.scores), 'run')}"
    if _same_models(ours, theirs) and len(ours.scores) > 1:
        scope = "both sides evaluate the same models, so images and seeds are resampled together"
    elif len(ours.scores) > 1 and len(theirs.scores) > 1:
        scope = "both seeds and images are resampled, so the intervals describe the methods"
    else:
        scope = "the intervals describe these trained models, not the methods; other seeds may differ more"
    rules = conventions_named(bootstrap.conventions).in_words()
    bias = "AP on few images is biased upward for both A and B; the bias of the difference is much smaller"
    return (f"{bootstrap.resamples:,} paired resamples of {units}. {runs}: {scope}", bias, rules)


def _label_notes() -> tuple[str, ...]:
    return (
        "p: two-sided p-value from a normal approximation. p Holm: p-value after the Holm correction for the number of "
        f"labels. finding: p Holm is below {ALPHA:g}",
        FEW_NOTE,
        f"a label with fewer than {TOO_FEW} positives never counts as a finding, regardless of the difference",
    )
