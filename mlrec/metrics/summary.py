"""`Metrics` as a data frame, as floats by name, and as a small table for a terminal or a notebook."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from mlrec.metrics.evaluate import LabelMetrics, Metrics
from mlrec.metrics.precision_recall import FEW_POSITIVES, RATES
from mlrec.utils.errors import counted

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("mAP", *RATES)
FLAT_NAMES = (*COLUMNS, *(f"top3/{name}" for name in RATES))
COUNTS = ("support", "negatives", "unknown", "predicted")


def label_rows(metrics: Metrics) -> list[list[Any]]:
    """Return the heading and one row per label, as in `per_label.csv`; undefined values are None."""
    names = list(LabelMetrics.__dataclass_fields__)
    rows: list[list[Any]] = [["label", "AP", *names]]
    for label, precision in metrics.average_precision.items():
        rates = metrics.per_label.get(label)  # absent in a file of an earlier version
        rows.append([label, precision, *(getattr(rates, name, None) for name in names)])
    return rows


def label_frame(metrics: Metrics) -> DataFrame:
    """Return one row per label, see `Metrics.to_frame`."""
    import pandas as pd

    (_, *columns), *rows = label_rows(metrics)
    index = pd.Index(metrics.average_precision, name="label")
    frame = pd.DataFrame([row[1:] for row in rows], columns=columns, index=index)
    counts: dict[str, str] = dict.fromkeys(COUNTS, "int64" if metrics.per_label else "Int64")
    counts["few_positives"] = "bool" if metrics.per_label else "boolean"
    return frame.astype(dict.fromkeys(set(columns) - set(counts), "float64") | counts)


def flat(metrics: Metrics, prefix: str = "", *, per_label: bool = False) -> dict[str, float]:
    """Return metrics as floats by name, see `Metrics.flat`."""
    numbers = [getattr(metrics, name) for name in COLUMNS] + [getattr(metrics.top3, name) for name in RATES]
    values = dict(zip(FLAT_NAMES, numbers, strict=True))
    for k, top in metrics.top.items():
        values |= {f"top{k}/{name}": getattr(top, name) for name in (*RATES, "F1")}
    if per_label:
        values |= {f"AP/{label}": value for label, value in metrics.average_precision.items()}
    return {f"{prefix}{name}": math.nan if value is None else float(value) for name, value in values.items()}


def text(metrics: Metrics) -> str:
    """Return a text table of metrics in percent, with the number of samples and labels.

    The table has rows for all labels, top-3 and each requested top-K.
    """
    lines = ["      " + "".join(f"{name:>7}" for name in COLUMNS)]
    lines += [f"{title:<6}" + "".join(f"{cell:>7}" for cell in cells) for title, cells in _rows(metrics)]
    return "\n".join([*lines, *_notes(metrics)])


def html(metrics: Metrics) -> str:
    """Return the table from `text` as HTML, with a collapsible table of metrics by label."""
    heading = "".join(f"<th>{name}</th>" for name in ("", *COLUMNS))
    body = "".join(
        f"<tr><th>{title}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        for title, cells in _rows(metrics)
    )
    labels = label_frame(metrics).to_html(float_format="{:.3f}".format, na_rep="–")
    notes = "".join(f"<p>{escape(note)}</p>" for note in _notes(metrics))
    return (
        f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>{notes}"
        f"<details><summary>By label</summary>{labels}</details>"
    )


def _rows(metrics: Metrics) -> list[tuple[str, list[str]]]:
    rows = [("all", [_percent(getattr(metrics, name)) for name in COLUMNS])]
    for k, rates in {3: metrics.top3, **metrics.top}.items():
        rows.append((f"top-{k}", ["", *(_percent(getattr(rates, name)) for name in RATES)]))
    return rows


def _notes(metrics: Metrics) -> list[str]:
    counts = metrics.counts
    notes = [
        f"percent; {counted(counts['samples'], 'sample')}, {counted(counts['labels'], 'label')}, "
        f"conventions {metrics.conventions.name}"
    ]
    for k, top in metrics.top.items():
        notes.append(
            f"F1@{k} {_percent(top.F1)}: micro-averaged over the {k} highest-scoring labels per sample, without a "
            "threshold"
        )
    few = sum(rates.few_positives for rates in metrics.per_label.values())
    if few:
        notes.append(
            f"{counted(few, 'label has', 'labels have')} fewer than {FEW_POSITIVES} positives; see to_frame() or "
            "per_label.csv"
        )
    return notes


def _percent(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}"
