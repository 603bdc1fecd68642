"""Scoring side by side: `mlrec.evaluate` with everything against others' mAP alone, on COCO-2014's test size.

    OMP_NUM_THREADS=1 python benchmarks/scoring.py [--samples 40137] [--labels 80] [--rounds 7]

Each round times every contestant once, in turn, in one process; a ratio is taken within each round, and the median of
the rounds is printed with its 95% interval. `mlrec` computes all metrics with top-3; scikit-learn and
torchmetrics compute mAP only; the paper's code is re-implemented from its description, loops over lists, all metrics.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from paired import describe_machine, ratio_interval
from sklearn.metrics import average_precision_score
from torchmetrics.functional.classification import multilabel_average_precision

from mlrec import evaluate
from mlrec.metrics.bootstrap import metric_intervals

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "metrics"))
from tests.metrics.scoring_oracles import paper_code

POSITIVE_SHARE = 2.9 / 80  # labels an image of COCO holds


def case(samples: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Float32 logits and targets; about as many positives as COCO has."""
    rng = np.random.default_rng(0)
    targets = (rng.random((samples, labels)) < POSITIVE_SHARE).astype(np.int8)
    return (rng.normal(size=targets.shape) - 3 + 3 * targets).astype(np.float32), targets


def contestants(logits: np.ndarray, targets: np.ndarray) -> dict[str, Callable[[], float]]:
    """Each computes mAP on its way."""
    tensors = torch.tensor(logits), torch.tensor(targets.astype(np.int64))
    return {
        "mlrec, all metrics with top-3": lambda: evaluate(logits, targets, scores="logits").mAP or 0.0,
        "scikit-learn, mAP alone": lambda: float(average_precision_score(targets, logits)),
        "torchmetrics, mAP alone": lambda: float(
            multilabel_average_precision(tensors[0].sigmoid(), tensors[1], num_labels=targets.shape[1])
        ),
        "the paper's loops, all but top-3": lambda: paper_code((1 / (1 + np.exp(-logits))).tolist(), targets.tolist())[
            "mAP"
        ],
    }


def seconds(run: Callable[[], float]) -> tuple[float, float]:
    """How long one call takes, and what it returns."""
    begun = time.perf_counter()
    value = run()
    return time.perf_counter() - begun, value


def main() -> None:
    """Time the contestants in turn and print ratios to scikit-learn; then the bootstrap at VOC2007's size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=40137)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = contestants(*case(args.samples, args.labels))
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            taken[name].append(seconds(run)[0])
    reference = taken["scikit-learn, mAP alone"]
    print(describe_machine())
    print(f"{args.samples} x {args.labels}, {args.rounds} rounds, one thread")
    for name, times in taken.items():
        ratios = [own / other for own, other in zip(times, reference, strict=True)]
        ratio, low, high = ratio_interval(ratios)
        print(f"{name:34s} {statistics.median(times):7.3f} s  {ratio:7.3f} x scikit-learn ({low:.3f} to {high:.3f})")
    logits, targets = case(4952, 20)
    print(f"1,000 resamples of 4952 x 20: {seconds(lambda: float(bool(metric_intervals(logits, targets))))[0]:.2f} s")


if __name__ == "__main__":
    main()
