"""Evaluating tf_efficientnet_lite0 at 224 px on a CPU, over a plain loop; and bf16 over fp32.

    mlrec prepare voc2007 VOCdevkit
    python benchmarks/evaluation.py data/voc2007 [--labels bus,car,cat,person,train] [--rounds 5]

The plain loop: PIL, torchvision transforms v1, contiguous memory, float32, scikit-learn's average precision; it has as
many loader processes as mlrec. The head is trained first, on cached features of the training split, so that mAP means
something. Images per second include decoding, the model and scoring, in alternation in one process tree.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from paired import describe_machine, ratio_interval
from PIL import Image
from sklearn.metrics import average_precision_score
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mlrec.config import Config
from mlrec.datasets.folder import Dataset as DataFolder
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.result import evaluate
from mlrec.models.classifier import Classifier, create_model
from mlrec.training.features import compute_features, feature_batches
from mlrec.training.loading import default_workers
from mlrec.training.losses import loss_function
from mlrec.training.scoring import predict

BATCH = 16


class PlainImages(Dataset[torch.Tensor]):
    """Files as a plain script reads them."""

    def __init__(self, manifest: Manifest, model: Classifier) -> None:
        given = model.preprocessing
        how = transforms.InterpolationMode(given.interpolation)
        self.manifest = manifest
        self.transform = transforms.Compose(
            [
                transforms.Resize((given.size, given.size), how),
                transforms.ToTensor(),
                transforms.Normalize(given.mean, given.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.manifest.path_of(index)).convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train-split", default="trainval")
    parser.add_argument("--split", default="test")
    parser.add_argument("--labels", default="bus,car,cat,person,train")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    folder = DataFolder.load(args.data)
    train, test = folder.manifest(args.train_split), folder.manifest(args.split)
    columns = [test.labels.index(label) for label in args.labels.split(",")]
    model = trained(train)

    sides: dict[str, list[float]] = {"plain": [], "fp32": [], "bf16": []}
    scores: dict[str, float] = {}
    for k in range(args.rounds + 1):
        for name in sides:
            start = time.perf_counter()
            scores[name] = plain(model, test, columns) if name == "plain" else ours(model, test, columns, name)
            if k:  # the first round warms up
                sides[name].append(len(test) / (time.perf_counter() - start))
    print(describe_machine() + f", {torch.get_num_threads()} threads, {default_workers()} loader processes")
    for name, rates in sides.items():
        print(f"{name:5} {np.median(rates):6.1f} images/s, mAP {100 * scores[name]:.3f}")
    compare("fp32 over the plain loop", sides["fp32"], sides["plain"], 1.5)
    compare("bf16 over fp32", sides["bf16"], sides["fp32"], 1.8)
    print(f"mAP of bf16 minus fp32: {100 * (scores['bf16'] - scores['fp32']):+.3f} points (to keep within 0.1)")


def compare(title: str, fast: list[float], slow: list[float], aim: float) -> None:
    middle, low, high = ratio_interval([a / b for a, b in zip(fast, slow, strict=True)])
    print(f"{title}: {middle:.2f} (95 % interval {low:.2f} to {high:.2f}, {len(fast)} alternations; to reach: {aim})")


def trained(manifest: Manifest) -> Classifier:
    """CSRA on the frozen trunk with its ImageNet weights, 20 epochs on cached features."""
    torch.manual_seed(0)
    labels = manifest.labels
    weights = "efficientnet-lite0"
    model = create_model("tf_efficientnet_lite0", len(labels), labels=labels, img_size=224, weights=weights)
    config = Config(img_size=224, batch_size=BATCH)
    features = compute_features(model, manifest, config, device=torch.device("cpu"))
    loss, optimizer = loss_function(config, manifest), torch.optim.AdamW(model.head.parameters(), lr=3e-3)
    for batch in feature_batches(features, config, epoch=0, epochs=20):
        optimizer.zero_grad()
        loss(model.head(batch.images), batch.targets).backward()
        optimizer.step()
    return model


def plain(model: Classifier, manifest: Manifest, columns: list[int]) -> float:
    model = model.to(memory_format=torch.contiguous_format).eval()
    loader = DataLoader(PlainImages(manifest, model), batch_size=BATCH, num_workers=default_workers())
    with torch.no_grad():
        scores = torch.cat([torch.sigmoid(model(images)) for images in loader]).numpy()
    values = []
    for column in columns:
        known = manifest.targets[:, column] >= 0
        values.append(average_precision_score(manifest.targets[known, column], scores[known, column]))
    return float(np.mean(values))


def ours(model: Classifier, manifest: Manifest, columns: list[int], precision: str) -> float:
    made = predict(model, manifest, batch_size=BATCH, device="cpu", precision=precision)
    return evaluate(made.logits[:, columns], manifest.targets[:, columns]).mAP or 0.0


if __name__ == "__main__":
    main()
