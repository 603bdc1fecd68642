"""A hundred and one λ from one pass, over one evaluation of the same model: the ratio of their seconds.

    python benchmarks/lambdas.py data/voc2007 [--backbone tf_efficientnet_lite0] [--img-size 224] [--rounds 5]

Both decode, compute and score the same split with the same settings, in alternation; weights are random, which changes
no time. The interval of the best λ is no part of it: its seconds are printed by themselves.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from paired import describe_machine, ratio_interval

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.evaluate import evaluate
from mlrec.metrics.lambda_sweep import LambdaSetting, Parts, chosen_here, mean_precisions
from mlrec.models.classifier import Classifier, create_model
from mlrec.training.prediction import InferenceOptions, predict, predict_parts

SETTINGS = [LambdaSetting(k / 100) for k in range(101)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    test = Dataset.load(args.data).manifest(args.split)
    test = test.subset(range(min(args.samples or len(test), len(test))))
    model = create_model(args.backbone, len(test.labels), "average", labels=test.labels, img_size=args.img_size)
    ratios, once, swept = [], [], []
    for k in range(args.rounds + 1):
        one, many = evaluation(model, test, args.batch_size), sweep(model, test, args.batch_size)
        if k:  # the first round warms up
            once.append(one)
            swept.append(many)
            ratios.append(many / one)
    middle, low, high = ratio_interval(ratios)
    print(
        f"{describe_machine()}; {args.backbone}, {args.img_size} px, {len(test):,} samples, {len(test.labels)} labels"
    )
    print(f"one evaluation {np.median(once):.2f} s, 101 values of λ {np.median(swept):.2f} s")
    print(f"ratio {middle:.3f} (95% interval {low:.3f} to {high:.3f}, {len(ratios)} alternations; to reach: <= 1.05)")
    average, added = predict_parts(model, test, InferenceOptions(batch_size=args.batch_size))
    parts = Parts(average.logits, added, test.targets)
    begun = time.perf_counter()
    chosen_here(parts, SETTINGS, mean_precisions(parts, SETTINGS, "mlrec"), 1000)
    print(f"interval of the best λ, the choice repeated in 1,000 resamples: {time.perf_counter() - begun:.1f} s")


def evaluation(model: Classifier, manifest: Manifest, batch_size: int) -> float:
    begun = time.perf_counter()
    made = predict(model, manifest, InferenceOptions(batch_size=batch_size))
    evaluate(made.logits, manifest.targets, scores="logits")
    return time.perf_counter() - begun


def sweep(model: Classifier, manifest: Manifest, batch_size: int) -> float:
    begun = time.perf_counter()
    average, added = predict_parts(model, manifest, InferenceOptions(batch_size=batch_size))
    mean_precisions(Parts(average.logits, added, manifest.targets), SETTINGS, "mlrec")
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
