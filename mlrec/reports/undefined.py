"""Marks and notes for labels that have no AP, or whose precision is 1 whatever is predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlrec.reports.render.table import Column

WITHOUT_NEGATIVE = "¶"  # at precisions (and F1) that count labels without a known negative
SHOWN = 20  # names in a note
_PRECISIONS = frozenset({"CP", "CF1", "OP", "OF1", "CP_3", "CF1_3", "OP_3", "OF1_3"})


def undefined_note(labels: Sequence[str], among: int) -> str:
    """Name the labels that are left out of mAP, of all that were scored."""
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    named = ", ".join(labels[:SHOWN]) + more
    return f"no AP for {len(labels)} of {among} labels, without a known positive or without a known negative: {named}"


def without_negative_notes(counts: Mapping[str, int]) -> list[str]:
    """A note if labels have no known negative; `counts` as in `Metrics.counts`."""
    number = counts.get("without_negative", 0)
    what = "label" if number == 1 else "labels"
    return [f"{number} {what} without a known negative: any prediction of them counts as right"] if number else []


def precision_marks(counts: Mapping[str, int], columns: Sequence[Column]) -> dict[int, str]:
    """Marks, by column position, of precisions that count labels without a known negative."""
    if not counts.get("without_negative"):
        return {}
    return {k: WITHOUT_NEGATIVE for k, column in enumerate(columns) if column.key in _PRECISIONS}
