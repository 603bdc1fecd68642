"""Predictions of images as lines of CSV or JSONL, one at a time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SEPARATOR = ";"  # between the labels of a CSV cell

Line = Callable[[str, Sequence[str], Mapping[str, float]], str]  # id, labels said, probability by label


def csv_header(labels: Sequence[str]) -> str:
    """`id,labels`, then a column a label."""
    return _csv(["id", "labels", *labels])


def csv_line(identity: str, said: Sequence[str], scores: Mapping[str, float]) -> str:
    """One image as a line of CSV; probabilities with all their digits, for rounded ones would tie when scored."""
    return _csv([identity, SEPARATOR.join(said), *(repr(float(score)) for score in scores.values())])


def jsonl_line(identity: str, said: Sequence[str], scores: Mapping[str, float]) -> str:
    """One image as a line of JSON: `{"id": ..., "labels": [...], "scores": {label: probability}}`."""
    exact = {label: float(score) for label, score in scores.items()}
    return json.dumps({"id": identity, "labels": list(said), "scores": exact}, ensure_ascii=False)


LINES: dict[str, Line] = {"csv": csv_line, "jsonl": jsonl_line}


def _csv(cells: Sequence[Any]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(cells)
    return stream.getvalue()
