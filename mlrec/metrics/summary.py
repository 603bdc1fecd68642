"""`Metrics` of scored samples, and their conversion to a data frame, a dict, or a small table.

All metrics are fractions from 0 to 1, or None if undefined. The table can be displayed in a terminal or a notebook.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlrec.metrics.average_precision import FrequencyGroup
from mlrec.metrics.conventions import Conventions
from mlrec.metrics.precision_recall import FEW_POSITIVES, RATES
from mlrec.utils.errors import PredictionsError, counted
from mlrec.utils.files import read_own_json, write_json

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("mAP", *RATES)
FLAT_NAMES = (*COLUMNS, *(f"top3/{name}" for name in RATES))
COUNTS = ("support", "negatives", "unknown", "predicted")


@dataclass(frozen=True)
class LabelMetrics:
    """Precision, recall, F1 and sample counts of one label.

    Rates are fractions, or None if undefined.

    Attributes:
        precision: Precision; 0 if the label is never predicted (as in CP). None if the label is unknown in all samples
            and the conventions ignore unknown samples.
        recall, F1: Recall and F1; None if the label has no known positive (as in CR).
        support: Number of known positives.
        negatives, unknown: Number of samples annotated as negative, and number of samples whose target is unknown.
        predicted: Number of samples predicted positive. The conventions define whether unknown samples count.
        threshold: Minimum score of a predicted label; None if it is infinite (the label is always or never predicted).
        few_positives: Whether the support is below 30. With so few positives, metrics depend strongly on the choice of
            test images.
    """

    precision: float | None
    recall: float | None
    F1: float | None
    support: int
    negatives: int
    unknown: int
    predicted: int
    threshold: float | None
    few_positives: bool


@dataclass(frozen=True)
class Rates:
    """Precision, recall and F1 of the predicted labels.

    CP and CR are means over labels. CF1 is the harmonic mean of CP and CR, or the mean F1 over labels, depending on
    `Conventions.class_f1`. OP, OR and OF1 are computed over all sample-label pairs.
    """

    CP: float | None
    CR: float | None
    CF1: float | None
    OP: float | None
    OR: float | None
    OF1: float | None


@dataclass(frozen=True)
class TopRates(Rates):
    """Precision, recall and F1 for the K highest-scoring labels of each sample.

    For CP, CR, CF1, OP, OR and OF1, `Conventions.top_k` defines whether these labels must also reach the threshold.

    Attributes:
        F1: F1@K as reported for NUS-WIDE: F1 over all sample-label pairs when K labels are predicted for every sample,
            without a threshold.
    """

    F1: float | None


@dataclass(frozen=True)
class Metrics:
    """Metrics of scored samples and their conventions.

    All metrics are fractions from 0 to 1, or None if undefined.

    Attributes:
        mAP: Mean AP over the labels that have a known positive and a known negative.
        CP, CR, CF1, OP, OR, OF1: Precision, recall and F1 of the labels at or above the threshold.
        top3: CP, CR, CF1, OP, OR and OF1 for the three highest-scoring labels of each sample. `Conventions.top_k`
            defines whether these labels must also reach the threshold.
        average_precision: AP of each label; None for a label without a known positive or without a known negative.
        counts: Counts by name: `samples`, `labels`, `positives` and `unknown` (sample-label pairs), and `undefined`
            (labels without AP). `without_negative` (labels whose known targets are all positive) is included only if it
            is above 0.
        conventions: Scoring conventions that were used.
        per_label: Precision, recall, F1 and counts of each label; empty in files written by earlier versions.
        by_frequency: mAP of frequent ("head"), medium ("medium") and rare ("tail") labels; empty if the training split
            is not known or does not contain all labels.
        top: Precision, recall, F1 and F1@K for the K highest-scoring labels. The key is K; only the requested K is
            included, and the dict is empty if no K was requested.

    Example:
        >>> from mlrec.metrics.evaluate import evaluate
        >>> metrics = evaluate([[2.0, -1.0], [-3.0, 0.5]], [[1, 0], [0, 1]], labels=["cat", "dog"])
        >>> metrics.mAP, metrics.average_precision, metrics.counts["samples"]
        (1.0, {'cat': 1.0, 'dog': 1.0}, 2)
    """

    mAP: float | None
    CP: float | None
    CR: float | None
    CF1: float | None
    OP: float | None
    OR: float | None
    OF1: float | None
    top3: Rates
    average_precision: dict[str, float | None]
    counts: dict[str, int]
    conventions: Conventions
    per_label: dict[str, LabelMetrics] = field(default_factory=dict)
    by_frequency: dict[str, FrequencyGroup] = field(default_factory=dict)
    top: dict[int, TopRates] = field(default_factory=dict)

    @property
    def undefined(self) -> list[str]:
        """Labels without AP, because they have no known positive or no known negative."""
        return [label for label, value in self.average_precision.items() if value is None]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `metrics.json`, which `mlrec score --json` also prints."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content

    def to_frame(self) -> DataFrame:
        """Return a data frame with one row per label, as in `per_label.csv`.

        The index contains the labels. The columns are `AP`, `precision`, `recall`, `F1`, `support` (known positives),
        `negatives`, `unknown`, `predicted`, `threshold` and `few_positives` (support below 30). Undefined values are
        NaN.

        Example:
            >>> from mlrec.metrics.evaluate import evaluate
            >>> metrics = evaluate([[2.0, -1.0], [-3.0, 0.5]], [[1, 0], [0, 1]], labels=["cat", "dog"])
            >>> metrics.to_frame()["support"].to_dict()
            {'cat': 1, 'dog': 1}
        """
        return label_frame(self)

    def flat(self, prefix: str = "", *, per_label: bool = False) -> dict[str, float]:
        """Return metrics as floats by name, for trackers and `log_dict`; undefined metrics are NaN.

        The metrics are mAP, CP, CR, CF1, OP, OR and OF1, their counterparts for the top-3 labels (without mAP), and
        the metrics in `top`.

        Args:
            prefix: Prefix of each name, such as "val/".
            per_label: Whether to add the AP of each label as `AP/<label>`.

        Example:
            >>> from mlrec.metrics.evaluate import evaluate
            >>> evaluate([[2.0], [-3.0]], [[1], [0]], labels=["cat"]).flat("val/", per_label=True)["val/AP/cat"]
            1.0
        """
        return flat(self, prefix, per_label=per_label)

    def __str__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        return html(self)

    def save(self, path: Path | str) -> None:
        """Write the metrics to a JSON file, such as `metrics.json`."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: Path | str) -> Metrics:
        """Read metrics from a JSON file, such as `metrics.json`.

        Raises:
            PredictionsError: The file is not a metrics file; the message states the reason.
        """
        return read_own_json(Path(path), cls, PredictionsError, "not a metrics file")


def label_rows(metrics: Metrics) -> list[list[Any]]:
    """Return the heading and one row per label, as in `per_label.csv`; undefined values are None."""
    names = list(LabelMetrics.__dataclass_fields__)
    rows: list[list[Any]] = [["label", "AP", *names]]
    for label, precision in metrics.average_precision.items():
        rates = metrics.per_label.get(label)  # absent in a file of an earlier version
        rows.append([label, precision, *(getattr(rates, name, None) for name in names)])
    return rows


def label_frame(metrics: Metrics) -> DataFrame:
    """Return a data frame with one row per label; see `Metrics.to_frame`."""
    import pandas as pd

    (_, *columns), *rows = label_rows(metrics)
    index = pd.Index(metrics.average_precision, name="label")
    frame = pd.DataFrame([row[1:] for row in rows], columns=columns, index=index)
    counts: dict[str, str] = dict.fromkeys(COUNTS, "int64" if metrics.per_label else "Int64")
    counts["few_positives"] = "bool" if metrics.per_label else "boolean"
    return frame.astype(dict.fromkeys(set(columns) - set(counts), "float64") | counts)


def flat(metrics: Metrics, prefix: str = "", *, per_label: bool = False) -> dict[str, float]:
    """Return metrics as floats by name; see `Metrics.flat`."""
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
            f"F1@{k} {_percent(top.F1)}: micro-averaged over the top-{k} labels of each sample, without a threshold"
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
