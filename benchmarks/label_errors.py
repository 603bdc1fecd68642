"""How many planted label errors `mlrec label-errors` finds first.

    python benchmarks/label_errors.py DATA [--share 0.05] [--seeds 0,1,2] [--labels a,b] [--folds 5] [--work DIR]

DATA is a prepared dataset with images. A seeded share of its known labels is flipped (of `trainval`, else of `all`,
else of `train`), the heads are trained on folds of the flipped labels, and the first k labels by doubt are looked at,
k = number flipped. Printed: the share of these that were flipped, for all labels and for each kind, beside chance.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlrec.cli.console import Terminal
from mlrec.datasets.dataset import Dataset, Info, write
from mlrec.datasets.manifest import UNKNOWN
from mlrec.metrics.label_errors import precision_at
from mlrec.workflows.evaluate.label_errors import label_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--labels", help="judge these labels apart, too")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--head", default="average")
    parser.add_argument("--work", type=Path, default=Path("label-errors-benchmark"))
    asked = parser.parse_args()
    rows = [planted(asked, int(seed)) for seed in asked.seeds.split(",")]
    print(f"{'seed':>4s} {'labels':>8s} {'flipped':>8s} {'precision at k':>15s} {'chance':>7s}  of those in question")
    for row in rows:
        print(row)


def planted(asked, seed: int) -> str:
    dataset = Dataset.load(asked.data)
    pool = next(name for name in ("trainval", "all", "train") if name in dataset.info.splits)
    manifest = dataset.manifest(pool)
    known = manifest.targets != UNKNOWN
    rng = np.random.default_rng(seed)
    wrong = np.zeros(known.shape, bool)
    chosen = rng.choice(np.flatnonzero(known), round(asked.share * known.sum()), replace=False)
    wrong.flat[chosen] = True
    flipped = replace(manifest, targets=np.where(wrong, 1 - manifest.targets, manifest.targets).astype(np.int8))
    folder = asked.work / f"seed{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    info = Info("flipped", {"kind": "csv"}, "paper", list(manifest.labels), {pool: len(manifest)})
    write(folder / "data", info, [flipped])
    doubts = label_errors(
        folder / "data",
        folds=asked.folds,
        flags={"seed": seed, "head": asked.head},
        out=folder / "out",
        progress=Terminal(),
    )
    lines = [line(f"{seed:4d} {'all':>8s}", doubts.found, wrong, known)]
    if asked.labels:
        columns = [manifest.labels.index(name) for name in asked.labels.split(",")]
        some = np.isin(np.arange(known.shape[1]), columns)
        lines.append(
            line(
                f"{seed:4d} {f'{len(columns)} of them':>8s}",
                [s for s in doubts.found if s.label in columns],
                wrong & some,
                known & some,
            )
        )
    return "\n".join(lines)


def line(head: str, found, wrong, known) -> str:
    k = int(wrong.sum())
    return f"{head} {k:8d} {100 * precision_at(found, wrong, k):14.1f}% {100 * k / known.sum():6.1f}%  {known.sum():,}"


if __name__ == "__main__":
    main()
