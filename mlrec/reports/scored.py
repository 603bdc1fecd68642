"""One set of scores as tables: what `score` and `eval` show."""

from __future__ import annotations

from mlrec.metrics.result import Metrics
from mlrec.reports.overview import SCORES
from mlrec.reports.results import METRICS, TOP3
from mlrec.reports.table import Column, Row, Table


def scored_tables(metrics: Metrics, *, title: str, top3: bool = False) -> list[Table]:
    """The metrics on one line, and AP label by label; how they were scored stands below, in words."""
    cells = [getattr(metrics, name) for name in METRICS]
    if top3:
        cells += [getattr(metrics.top3, name) for name in TOP3]
    rows = tuple(Row((label, value)) for label, value in metrics.average_precision.items())
    return [
        Table(title, SCORES[: len(cells)], (Row(tuple(cells)),), (_counts(metrics.counts),)),
        Table("AP by label", (Column("label", "Label"), Column("AP", "AP", "percent")), rows, _notes(metrics)),
    ]


def _notes(metrics: Metrics) -> tuple[str, ...]:
    undefined = metrics.undefined
    missing = (f"no positive in the truth, so no AP: {', '.join(undefined)}",) if undefined else ()
    return (*missing, metrics.conventions.in_words(), "in percent")


def _counts(counts: dict[str, int]) -> str:
    unknown = f", {counts['unknown']:,} unknown" if counts["unknown"] else ""
    return f"{counts['samples']:,} samples x {counts['labels']} labels: {counts['positives']:,} positive{unknown}"
