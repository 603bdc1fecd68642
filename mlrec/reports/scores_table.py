"""One set of scores as tables: what `score` and `eval` show."""

from __future__ import annotations

from mlrec.metrics.evaluate import Metrics
from mlrec.reports.render.table import Column, Row, Table
from mlrec.reports.results import METRICS, TOP3
from mlrec.reports.runs_table import SCORES
from mlrec.reports.undefined import WITHOUT_NEGATIVE, precision_marks, undefined_note, without_negative_notes
from mlrec.utils.errors import counted


def scored_tables(metrics: Metrics, *, title: str, top3: bool = False) -> list[Table]:
    """The metrics on one line, and AP label by label; how they were scored stands below, in words."""
    cells = [getattr(metrics, name) for name in METRICS]
    if top3:
        cells += [getattr(metrics.top3, name) for name in TOP3]
    if _nothing_known(metrics.counts):
        cells = [None] * len(cells)
    rows = tuple(Row((label, value)) for label, value in metrics.average_precision.items())
    columns = SCORES[: len(cells)]
    marks = precision_marks(metrics.counts, columns)
    notes = (
        _counts(metrics.counts),
        *(f"{WITHOUT_NEGATIVE} {note}" for note in without_negative_notes(metrics.counts)),
    )
    return [
        Table(title, columns, (Row(tuple(cells), marks=marks),), notes),
        Table("AP by label", (Column("label", "Label"), Column("AP", "AP", "percent")), rows, _notes(metrics)),
    ]


def _nothing_known(counts: dict[str, int]) -> bool:
    return counts["unknown"] == counts["samples"] * counts["labels"]


def _notes(metrics: Metrics) -> tuple[str, ...]:
    if _nothing_known(metrics.counts):
        return ("no label of any sample is known, so there is nothing to score",)
    missing = [undefined_note(metrics.undefined, metrics.counts["labels"])] if metrics.undefined else []
    return (*missing, metrics.conventions.in_words(), "in percent")


def _counts(counts: dict[str, int]) -> str:
    unknown = f", {counts['unknown']:,} unknown" if counts["unknown"] else ""
    return (
        f"{counted(counts['samples'], 'sample')} x {counted(counts['labels'], 'label')}: "
        f"{counts['positives']:,} positive{unknown}"
    )
