"""What tuning changes, and the thresholds label by label, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlrec.metrics.calibration import Reliability
from mlrec.metrics.precision_recall import RATES
from mlrec.predictions import probabilities_of
from mlrec.reports.render.table import Column, Row, Table
from mlrec.runs.tuned import Tuned

COLUMNS = (
    Column("how", "Thresholds", identity=True),
    *(Column(key, key, "percent") for key in RATES),
    Column("F1", "mean F1", "percent"),
    *(Column(key.lower(), key, "number", block="Probabilities") for key in ("NLL", "Brier", "ECE")),
)
NOTES = (
    "mean F1: of each label, then the mean; NLL, Brier, ECE (15 bins): over all pairs of sample and label, "
    "after calibration where tuned",
)
Judgement = tuple[str, str, Mapping[str, float | None], Reliability | None]


def effect(judged: Sequence[Judgement], tuned: Tuned) -> Table:
    """Before and after, split by split; each judgement is (split, thresholds, rates, reliability)."""
    rows = []
    for on, how, rates, found in judged:
        numbers = [None] * 3 if found is None else [round(v, 4) for v in (found.nll, found.brier, found.ece)]
        rows.append(Row((how, *(rates[key] for key in (*RATES, "F1")), *numbers), group=on))
    return Table("What tuning changes", COLUMNS, tuple(rows), (f"thresholds {tuned.in_words()}", *NOTES))


def by_label(tuned: Tuned) -> Table:
    """The threshold of each label, as a probability before and after calibration."""
    after: Any = tuned.probabilities
    rows = []
    for k, (label, value) in enumerate(tuned.labels.items()):
        never = value.threshold is None
        before = None if value.threshold is None else round(float(probabilities_of(np.asarray(value.threshold))), 4)
        rows.append(
            Row((label, value.positives, before, None if never else round(float(after[k]), 4),
                 round(value.slope, 3), round(value.offset, 3), "own" if value.own else "common"))
        )  # fmt: skip
    columns = (
        Column("label", "Label", identity=True),
        Column("positives", "positives", "count"),
        Column("probability", "p ≥", "number", absent="never"),
        Column("calibrated", "calibrated p ≥", "number", absent="never"),
        Column("slope", "a", "number"),
        Column("offset", "b", "number"),
        Column("own", "threshold"),
    )
    note = "p: sigmoid of the logit z; calibrated: sigmoid(a·z + b); common: too few positives for its own"
    return Table("Thresholds by label", columns, tuple(rows), (note,))
