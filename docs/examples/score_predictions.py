"""Score predictions of another tool: two CSV files → metrics and a table by label. Needs neither torch nor a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

import mlrec

LABELS = ["bicycle", "bus", "car", "dog", "person"]


def write_files(count: int = 400) -> None:
    """Write truth.csv and scores.csv, as another tool would: probabilities, rows and columns in another order."""
    rng = np.random.default_rng(0)
    names = pd.Index([f"{number:06}.jpg" for number in range(count)], name="filename")
    prevalence = np.array([0.05, 0.1, 0.2, 0.1, 0.5])
    truth = (rng.random((count, len(LABELS))) < prevalence).astype(int)
    logits = 3.0 * truth - 2.0 + rng.normal(size=truth.shape)
    scores = pd.DataFrame(1 / (1 + np.exp(-logits)), index=names, columns=LABELS)
    unknown = rng.random(truth.shape) < 0.02
    pd.DataFrame(np.where(unknown, -1, truth), index=names, columns=LABELS).to_csv("truth.csv")
    scores.sample(frac=1, random_state=0)[sorted(LABELS, reverse=True)].to_csv("scores.csv")


def main() -> None:
    """Read both files, print the metrics and write per_label.csv."""
    write_files()

    # 1 positive, 0 negative, -1 unknown. DataFrames are matched by column names and index, in any order.
    truth = pd.read_csv("truth.csv", index_col="filename")
    scores = pd.read_csv("scores.csv", index_col="filename")
    metrics = mlrec.evaluate(scores, truth, scores="probabilities")
    print(f"mAP {metrics.mAP:.1%}, CF1 {metrics.CF1:.1%}, OF1 {metrics.OF1:.1%}, top-3 OF1 {metrics.top3.OF1:.1%}")

    table = pd.DataFrame(
        {"AP": metrics.average_precision, "positives": (truth == 1).sum(), "unknown": (truth == -1).sum()}
    )
    table = table.sort_values("AP", ascending=False)
    table.to_csv(Path("per_label.csv"), index_label="label")
    print(table.to_string(float_format="{:.3f}".format))

    # Other rules: "csra" is that of the paper's code. threshold= is on the scale of the scores.
    strict = mlrec.evaluate(scores, truth, scores="probabilities", conventions="csra", threshold=0.7)
    print(f"conventions csra, p >= 0.7: CP {strict.CP:.1%}, CR {strict.CR:.1%}")


if __name__ == "__main__":
    main()
