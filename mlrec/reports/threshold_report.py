"""Tables for `mlrec tune`: metrics before and after tuning, and the threshold of each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mlrec.metrics.calibration import Reliability
from mlrec.metrics.precision_recall import RATES
from mlrec.predictions import probabilities_of
from mlrec.reports.render.table import Column, Row, Table
from mlrec.run_folders.tuned import Tuned

COLUMNS = (
    Column("how", "Thresholds", identity=True),
    *(Column(key, key, "percent") for key in RATES),
    Column("F1", "mean F1", "percent"),
    *(Column(key.lower(), key, "number", block="Probabilities") for key in ("NLL", "Brier", "ECE")),
)
NOTES = (
    "mean F1: mean of the F1 scores of all labels. NLL, Brier and ECE (15 bins) are computed over all sample-label "
    "pairs; in tuned rows, they are computed after calibration",
)
# Split, thresholds in words, rates by name, and reliability of the probabilities.
ThresholdRow = tuple[str, str, Mapping[str, float | None], Reliability | None]


def tuning_table(reports: Sequence[ThresholdRow], tuned: Tuned) -> Table:
    """Return a table of the metrics before and after tuning, grouped by split.

    Args:
        reports: One report per row, with the split, a description of the thresholds, the metrics and the calibration.
        tuned: Tuned thresholds.
    """
    rows = []
    for split, thresholds, rates, reliability in reports:
        errors: list[float | None] = [None, None, None]
        if reliability is not None:
            errors = [round(value, 4) for value in (reliability.nll, reliability.brier, reliability.ece)]
        rows.append(Row((thresholds, *(rates[key] for key in (*RATES, "F1")), *errors), group=split))
    return Table("Effect of tuning", COLUMNS, tuple(rows), (f"thresholds {tuned.in_words()}", *NOTES))


def threshold_table(tuned: Tuned) -> Table:
    """Return a table of the threshold of each label, as a probability before and after calibration."""
    rows = []
    for k, (label, value) in enumerate(tuned.labels.items()):
        before, after = None, None
        if value.threshold is not None:
            before = round(float(probabilities_of(np.asarray(value.threshold))), 4)
            after = round(float(tuned.probabilities[k]), 4)
        source = "own" if value.own else "common"
        rows.append(Row((label, value.positives, before, after, round(value.slope, 3), round(value.offset, 3), source)))
    columns = (
        Column("label", "Label", identity=True),
        Column("positives", "positives", "count"),
        Column("probability", "p ≥", "number", absent="never"),
        Column("calibrated", "calibrated p ≥", "number", absent="never"),
        Column("slope", "a", "number"),
        Column("offset", "b", "number"),
        Column("own", "threshold"),
    )
    note = (
        "p: sigmoid of the logit z. calibrated: sigmoid(a·z + b). common: the label has too few positives for its own "
        "threshold and uses the common threshold"
    )
    return Table("Thresholds by label", columns, tuple(rows), (note,))
