"""How often intervals of mAP cover the mean mAP of test sets of the same size, with many labels of few positives.

    python benchmarks/interval_coverage.py [--sets 200] [--labels 60] [--images 200] [--resamples 200]

Test sets are drawn from a population of random scores, in which positives score higher. For two methods with correlated
scores, the intervals of one mAP and of the paired difference are compared with the means over 2,000 other sets.
"""

from __future__ import annotations

import argparse

import numpy as np

from mlrec import evaluate
from mlrec.metrics.bootstrap import mAP_interval, paired_difference

OTHER_SETS = 2000
PREVALENCE = (0.006, 0.02)  # one to four positives in 200 images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--labels", type=int, default=60)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=200)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    prevalence = rng.uniform(*PREVALENCE, asked.labels)

    def drawn():
        targets = (rng.random((asked.images, asked.labels)) < prevalence).astype(np.int8)
        shared, own = rng.standard_normal((2, asked.images, asked.labels))
        return targets, shared + 1.5 * targets, 0.8 * shared + 0.6 * own + 1.5 * targets

    def values(targets, ours, theirs):
        first, second = (evaluate(scores, targets, scores="logits").mAP for scores in (ours, theirs))
        return first, first - second

    expected = np.mean([values(*drawn()) for _ in range(OTHER_SETS)], axis=0)
    covered = np.zeros(2)
    for _ in range(asked.sets):
        targets, ours, theirs = drawn()
        intervals = (
            mAP_interval(ours, targets, resamples=asked.resamples),
            paired_difference(ours, theirs, targets, resamples=asked.resamples),
        )
        covered += [one.low <= value <= one.high for one, value in zip(intervals, expected, strict=True)]
    for name, share in zip(("mAP", "paired difference"), 100 * covered / asked.sets, strict=True):
        print(f"{name}: {share:.1f}% of the intervals of {asked.sets} sets cover the mean")


if __name__ == "__main__":
    main()
