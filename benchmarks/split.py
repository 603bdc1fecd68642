"""How much nearer to the prevalences of the whole `mlrec split` comes than random splits, and in what time.

    python benchmarks/split.py LABELS.csv... [--seeds 10]

For each table of labels, one line a way of splitting: the median over seeds of the distance of prevalences between the
held-out part and the whole (mean over labels, in points), the same of 20 random splits, their ratio, and the seconds
of one split. "in groups": samples come in random groups of three on average that must not be torn apart.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from mlrec.datasets.analysis.groups import numbered
from mlrec.datasets.analysis.split import prevalence_error, random_parts, stratified
from mlrec.datasets.readers.csv_labels import read_csv_labels
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.utils.errors import ValidationReport

WAYS = {"val 0.2": [0.8, 0.2], "5 folds": [0.2] * 5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    print(f"{'labels':34s} {'split':20s} {'mlrec':>8s} {'random':>8s} {'ratio':>6s} {'seconds':>8s}")
    for path in asked.labels:
        targets = read_csv_labels(path, ReadOptions(), ValidationReport()).manifests[0].targets
        some = np.random.default_rng(0).integers(0, len(targets) // 3, len(targets))
        for name, groups in (("", np.arange(len(targets))), (" in groups", numbered(some.tolist()))):
            for way, shares in WAYS.items():
                held_out = range(len(shares)) if len(shares) > 2 else [1]
                begun = time.perf_counter()
                parts = [stratified(targets, groups, shares, seed) for seed in range(asked.seeds)]
                seconds = (time.perf_counter() - begun) / asked.seeds
                ours = np.median([error(targets, part, held_out) for part in parts])
                chance = np.median([error(targets, random_parts(groups, shares, k), held_out) for k in range(20)])
                print(
                    f"{path.stem:34s} {way + name:20s} {100 * ours:8.4f} {100 * chance:8.4f} "
                    f"{chance / ours:6.1f} {seconds:8.2f}"
                )


def error(targets, part, held_out):
    return np.mean([prevalence_error(targets, part == k) for k in held_out])


if __name__ == "__main__":
    main()
