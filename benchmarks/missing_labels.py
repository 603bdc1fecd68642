"""Test mAP of losses against the share of training annotations that are kept.

    mlrec split DATA --keep-labels 0.1,0.3,0.5,0.7 --single-positive
    python benchmarks/missing_labels.py DATA [--splits train-keep10,...] [--seeds 0,1,2] [--img-size 128]

Trains an average-pooling head on features of the frozen backbone (recipe demo) with each loss on each of the splits,
and scores the complete test split. The features are computed once. Runs are kept in --work; finished ones are not
trained again. Printed, per split: mAP of BCE with missing annotations as negatives, mean over seeds, and the difference
of each other loss with its paired 95% interval over images and seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mlrec.cli.console import Terminal
from mlrec.run_folders.record import Run
from mlrec.training.features import FeatureCache
from mlrec.utils.errors import ConfigError
from mlrec.workflows.report.frames import compare
from mlrec.workflows.train.train import train

LOSSES: dict[str, dict[str, Any]] = {
    "bce, negative": {"loss": "bce", "unknown": "negative"},
    "bce, ignore": {"loss": "bce", "unknown": "ignore"},
    "asl": {"loss": "asl", "unknown": "negative"},
    "focal": {"loss": "focal", "unknown": "negative"},
    "hill": {"loss": "hill"},
    "splc": {"loss": "splc"},
    "ll-r": {"loss": "ll-r"},
    "ll-ct": {"loss": "ll-ct"},
    "em": {"loss": "em"},
}
FIRST = next(iter(LOSSES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--splits", default="train-single,train-keep10,train-keep30,train-keep50,train-keep70,train")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="efficientnet-lite0")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--work", type=Path, default=Path("missing-labels"))
    asked = parser.parse_args()
    features = FeatureCache()
    for split in asked.splits.split(","):
        seeds = [int(seed) for seed in asked.seeds.split(",")]
        runs = {}
        for name in LOSSES:
            try:
                runs[name] = [trained(asked, features, split, name, seed) for seed in seeds]
            except ConfigError as error:  # a loss for unknown labels, and the split has none
                print(error, file=sys.stderr)
        for name, of_loss in runs.items():
            line: dict[str, Any] = {"data": asked.data.name, "split": split, "loss": name, "mAP": mean_map(of_loss)}
            if name != FIRST:
                difference = compare(of_loss, runs[FIRST])["metrics"].loc["mAP"]
                line |= {key: value if isinstance(value, str) else float(value) for key, value in difference.items()}
            print(json.dumps(line), flush=True)


def trained(asked, features: FeatureCache, split: str, loss: str, seed: int) -> Path:
    folder = asked.work / asked.data.name
    name = f"{split}-{loss.replace(', ', '-')}-seed{seed}"
    if not (folder / name / "metrics.json").exists():
        flags = {
            "data": str(asked.data), "train_split": split, "split": "test", "head": "average", "lr": asked.lr,
            "backbone": asked.backbone, "weights": asked.weights, "img_size": asked.img_size, "seed": seed,
            "threads": 1, **LOSSES[loss],
        }  # fmt: skip
        train(flags, recipe="demo", out=folder, name=name, features=features, progress=Terminal())
    return folder / name


def mean_map(runs: list[Path]) -> float:
    values = [Run.load(run).metrics().mAP for run in runs]
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
