"""The rows of `per_label.csv`, which are written without pandas, against the data frame that pandas writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlrec.metrics.evaluate import evaluate
from mlrec.metrics.summary import label_rows
from mlrec.utils.frame_files import csv_text, write_csv


def test_the_csv_of_labels_has_the_bytes_that_pandas_writes(tmp_path: Path) -> None:
    labels = ["=1+1", "a,b", 'q"uote', "ü", "-x", "tab\tin", "never", "always", "unknown"]
    rng = np.random.default_rng(0)
    targets = rng.integers(-1, 2, (50, len(labels)))
    targets[:, 6:] = (0, 1, -1)
    metrics = evaluate(rng.normal(size=targets.shape), targets, labels=labels, threshold=[np.inf, *range(8)])
    write_csv(label_rows(metrics), tmp_path / "per_label.csv")
    assert (tmp_path / "per_label.csv").read_bytes() == csv_text(metrics.to_frame(), index=True).encode()
