"""Run folders made of literal arrays."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from mlrec.metrics.evaluate import evaluate
from mlrec.predictions import Predictions
from mlrec.reports.paper.published import DATASETS
from mlrec.reports.settings import recipe_values
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord, SplitRecord

# The golden set of the metric definitions: 4 samples, 4 labels, the last without a positive.
SCORES = [[0.9, 0.6, 0.2, 0.1], [0.5, 0.7, 0.8, 0.3], [0.5, 0.2, 0.9, 0.6], [0.1, 0.55, 0.7, 0.65]]
TARGETS = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]]
LABELS = ("dog", "cat", "bus", "car")


def logits_of(scores: list[list[float]]) -> np.ndarray:
    return np.array([[math.log(p / (1 - p)) for p in row] for row in scores], dtype=np.float32)


def write_run(
    root: Path,
    name: str,
    *,
    config: dict[str, Any] | None = None,
    logits: np.ndarray | None = None,
    targets: np.ndarray | None = None,
    labels: tuple[str, ...] = LABELS,
    sample_ids: tuple[str, ...] | None = None,
    dataset: str = "toy",
    kind: str = "csv",
    split: str = "test",
    digest: str = "d0",
    conventions: str = "mlrec",
    status: Any = "finished",
    log: str = "",
    **record: Any,
) -> Path:
    """A run folder as training leaves it, its metrics those of its predictions."""
    logits = logits_of(SCORES) if logits is None else np.asarray(logits, dtype=np.float32)
    targets = np.array(TARGETS if targets is None else targets, dtype=np.int8)
    ids = sample_ids or tuple(f"{k:06d}.jpg" for k in range(len(logits)))
    path = root / name
    path.mkdir(parents=True)
    settings = {"backbone": "resnet101", "head": "csra", "heads": 1, "lam": 0.1, "img_size": 448, "seed": 0}
    paper = recipe_values("paper", kind, str((config or {}).get("head", "csra")))
    if "train" not in record:
        full = next((full for full in DATASETS.values() if full.kind == kind), None)
        part, samples = (full.train_split, full.train_samples) if full else ("train", 100)
        record["train"] = SplitRecord(
            dataset=dataset, kind=kind, split=part, samples=samples, digest=f"{part}-{digest}"
        )
    tag = {"backbone": "resnet101.tv_in1k", "weights": "resnet101.tv_in1k"}
    RunRecord(
        name=name,
        status=status,
        config=dict(paper) | settings | (config or {}),
        model=record.pop("model", tag),
        started="2026-01-01T00:00:00",
        finished="2026-01-01T00:01:00",
        scored=SplitRecord(dataset=dataset, kind=kind, split=split, samples=len(logits), digest=digest),
        **record,
    ).save(path)
    Predictions(labels, ids, logits, targets, digest).save(path / directory.PREDICTIONS)
    evaluate(logits, targets, labels=list(labels), conventions=conventions).save(path / directory.METRICS)
    if log:
        (path / directory.LOG).write_text(log)
    return path
