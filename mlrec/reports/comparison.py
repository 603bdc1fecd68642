"""`Comparison`: two methods on the same samples, paired; the metrics and the labels in which they can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlrec.metrics.bootstrap import METRICS, Bootstrap, Estimate
from mlrec.metrics.conventions import conventions_named
from mlrec.metrics.intervals import Interval
from mlrec.metrics.significance import LabelTest, tests_of
from mlrec.predictions import Floats
from mlrec.reports.by_label import FEW, FEW_NOTE
from mlrec.reports.render.table import UNDEFINED, Column, Row, Table, percent
from mlrec.utils.errors import counted

ALPHA = 0.05
SAME = "not distinguishable"


@dataclass(frozen=True)
class Side:
    """One method.

    Attributes:
        name: what it is called.
        scores: (N, C) of each of its runs, rows and columns in the order that both sides share.
        threshold: a label is predicted at or above it: 0 for logits, 0.5 for probabilities.
    """

    name: str
    scores: Sequence[Floats]
    threshold: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """Ours, theirs, and ours minus theirs, on the whole set and on the same resamples of it."""

    ours: Estimate
    theirs: Estimate
    difference: Estimate
    labels: tuple[LabelTest, ...]


def compare(
    ours: Side, theirs: Side, targets: NDArray[np.int8], labels: Sequence[str], bootstrap: Bootstrap
) -> Comparison:
    """Draw once, score both sides on each draw. Seeds are drawn too where a side has several runs."""
    us, them = (
        replace(bootstrap, threshold=side.threshold).estimate(list(side.scores), place)
        for place, side in enumerate((ours, theirs))
    )
    difference = us.minus(them)
    return Comparison(us, them, difference, tuple(tests_of(difference, targets, labels)))


def comparison_tables(
    ours: Side, theirs: Side, comparison: Comparison, bootstrap: Bootstrap, *, what: str
) -> list[Table]:
    """The metrics, then the labels, of A − B; `what` says on which samples."""
    names = (f"A {ours.name}", f"B {theirs.name}")
    notes = _notes(ours, theirs, comparison, bootstrap)
    title = f"A − B on {what}: {verdict(comparison)}"
    return [
        Table(title, _columns("Metric", "p", labels=False), _metric_rows(comparison), (*names, *notes)),
        Table("A − B by label (AP)", _columns("Label", "p Holm", labels=True), _label_rows(comparison), _label_notes()),
    ]


def verdict(comparison: Comparison) -> str:
    """The finding about mAP in one plain sentence."""
    interval = comparison.difference.metric("mAP")
    if interval is None:
        return "mAP is undefined"
    ends = f"95 % interval {percent(interval.low)} to {percent(interval.high)} points of mAP"
    if not interval.excludes_zero:
        return f"{SAME}, {ends}"
    return f"A is {'higher' if interval.value > 0 else 'lower'}, {ends}"


def _columns(first: str, p: str, *, labels: bool) -> tuple[Column, ...]:
    tested = (Column("p", "p", "p"), Column("p_holm", p, "p")) if labels else ()
    return (
        Column(first.lower(), first, identity=True),
        *((Column("positives", "positives", "count"),) if labels else ()),
        Column("a", "A", "percent"),
        Column("b", "B", "percent"),
        Column("difference", "A − B", "points"),
        Column("low", "low", "points", block="95 %"),
        Column("high", "high", "points", block="95 %"),
        *tested,
        Column("finding", "Finding"),
    )


def _metric_rows(comparison: Comparison) -> tuple[Row, ...]:
    rows = []
    for name in METRICS:
        a, b, d = (e.metric(name) for e in (comparison.ours, comparison.theirs, comparison.difference))
        told = UNDEFINED if d is None else _finding(d.value) if d.excludes_zero else SAME
        ends = (None, None, None) if d is None else (d.value, d.low, d.high)
        rows.append(Row((name, _value(a), _value(b), *ends, told)))
    return tuple(rows)


def _label_rows(comparison: Comparison) -> tuple[Row, ...]:
    rows = []
    for column, test in enumerate(comparison.labels):
        a, b = comparison.ours.label(column), comparison.theirs.label(column)
        d = test.interval
        told = UNDEFINED
        if d is not None and test.p_holm is not None:
            told = _finding(d.value) if test.p_holm < ALPHA else SAME
        ends = (None, None, None) if d is None else (d.value, d.low, d.high)
        cells = (test.label, test.positives, _value(a), _value(b), *ends, test.p, test.p_holm, told)
        rows.append(Row(cells, marks={1: FEW} if test.few else {}))
    return tuple(rows)


def _value(interval: Interval | None) -> float | None:
    return None if interval is None else interval.value


def _finding(difference: float) -> str:
    return "A higher" if difference > 0 else "A lower"


def _notes(ours: Side, theirs: Side, comparison: Comparison, bootstrap: Bootstrap) -> tuple[str, ...]:
    number = comparison.difference.units
    samples = len(np.asarray(bootstrap.targets))
    units = counted(number, "image") + (f" ({counted(samples, 'sample')})" if number != samples else "")
    n = f"n = {len(ours.scores)} and {counted(len(theirs.scores), 'run')}"
    drawn = f"{bootstrap.resamples:,} paired resamples of {units}"
    if len(ours.scores) > 1 and len(theirs.scores) > 1:
        about = f"{n}: seeds are drawn as well as images, so the intervals are about the methods"
    else:
        about = f"{n}: the intervals are about these trained models, not about the methods: other seeds may differ more"
    rules = conventions_named(bootstrap.conventions).in_words()
    bias = "AP of few images is biased upwards, for A and B alike; their difference much less"
    return (f"{drawn}; {about}", bias, rules)


def _label_notes() -> tuple[str, ...]:
    return (
        f"p: two-sided, normal; Holm's correction for the number of labels; finding at {ALPHA:g}",
        FEW_NOTE,
    )
