"""Evaluating with mlrec over a plain loop; and bf16 over fp32.

    mlrec prepare voc2007 VOCdevkit
    python benchmarks/evaluation.py data/voc2007                        # tf_efficientnet_lite0 at 224 px on a CPU
    python benchmarks/evaluation.py data/voc2007 --device cuda          # resnet101 at 448 px on a GPU

The plain loop is that of plain.py, scored by scikit-learn; it has as many loader processes as mlrec. The head is
trained first, on cached features of the training split, so that mAP means something if the backbone's weights do: those
of resnet101 are random. Images per second include decoding, the model and scoring, in alternation. Each side has a
process of its own, mlrec's with the settings of its commands.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from paired import AS_MLREC, SIDES, Side, describe_machine, tell
from plain import PlainImages, plain_model
from sklearn.metrics import average_precision_score
from torch.utils.data import DataLoader

from mlrec.config import Config
from mlrec.datasets.dataset import Dataset as DataFolder
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.evaluate import evaluate
from mlrec.models.checkpoint import load_model, save_model
from mlrec.models.classifier import Classifier
from mlrec.training import setup
from mlrec.training.dataloader import default_workers
from mlrec.training.devices import default_eval_batch
from mlrec.training.features import compute_features, feature_batches
from mlrec.training.losses import loss_function
from mlrec.training.prediction import InferenceOptions, predict

BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train-split", default="trainval")
    parser.add_argument("--split", default="test")
    parser.add_argument("--labels", default="bus,car,cat,person,train")
    parser.add_argument("--device", default="cpu", choices=list(SIDES))
    parser.add_argument("--backbone", help="[default: by the device]")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.workers is None:
        args.workers = default_workers(torch.device(args.device))
    folder = DataFolder.load(args.data)
    train, test = folder.manifest(args.train_split), folder.manifest(args.split)
    columns = [test.labels.index(label) for label in args.labels.split(",")]
    device, (backbone, size, best) = torch.device(args.device), SIDES[args.device]
    config = Config(
        backbone=args.backbone or backbone, img_size=args.img_size or size, batch_size=BATCH, workers=args.workers,
        weights="efficientnet-lite0" if args.backbone is None and args.device == "cpu" else None, pretrained=False,
    )  # fmt: skip
    rates: dict[str, list[float]] = {}
    scores: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_model(file, trained(train, config, device), {})
        both = file, test, columns, args
        sides = {
            "plain": Side(plain, *both, True, environment={}),
            "fp32": Side(ours, *both, "fp32", environment=AS_MLREC),
            "bf16": Side(ours, *both, "bf16", environment=AS_MLREC),
        }
        if device.type == "cuda":
            sides = {"plain, TF32 off": Side(plain, *both, False, environment={})} | sides
        for k in range(args.rounds + 1):
            for name, side in sides.items():
                turn = side.take_turn()
                scores[name] = turn.found
                if k:  # the first round loads and warms up
                    rates.setdefault(name, []).append(len(test) / turn.seconds)
        for side in sides.values():
            side.end()
    print(f"{describe_machine()}, {torch.get_num_threads()} threads, {args.workers} loader processes, {device}")
    print(f"{config.backbone} at {config.img_size} px, {len(test)} images")
    for name, found in rates.items():
        print(f"{name:16} {np.median(found):6.1f} images/s, mAP {100 * scores[name]:.3f}")
    aims = {"plain": 1.5 if device.type == "cpu" else 2.5, "plain, TF32 off": 5}
    for name in [name for name in aims if name in rates]:
        tell(f"{best} over {name}", ratios(rates, best, name), f"to reach: {aims[name]}")
    tell("bf16 over fp32", ratios(rates, "bf16", "fp32"), "to reach on a CPU that has it: 1.8")
    print(f"mAP of bf16 minus fp32: {100 * (scores['bf16'] - scores['fp32']):+.3f} points (to keep within 0.1)")


def ratios(rates: dict[str, list[float]], fast: str, slow: str) -> list[float]:
    return [a / b for a, b in zip(rates[fast], rates[slow], strict=True)]


def trained(manifest: Manifest, config: Config, device: torch.device) -> Classifier:
    """CSRA on the frozen backbone, 20 epochs on cached features."""
    model = setup.build_model(config, manifest, paper=False)
    features = compute_features(model, manifest, config, device=device)
    loss, optimizer = loss_function(config, manifest), torch.optim.AdamW(model.head.parameters(), lr=3e-3)
    for batch in feature_batches(features, config, epoch=0, epochs=20):
        optimizer.zero_grad()
        loss(model.head(batch.images.to(device)), batch.targets.to(device)).backward()
        optimizer.step()
    return model


def plain(file: Path, manifest: Manifest, columns: list[int], args: argparse.Namespace, tf32: bool) -> Iterator[float]:
    """The plain loop's mAP, each time it is asked."""
    torch.backends.cudnn.allow_tf32 = tf32
    model = plain_model(load_model(file)).to(args.device, memory_format=torch.contiguous_format)
    loader = DataLoader(
        PlainImages(manifest, model.preprocessing, augmented=False), batch_size=BATCH, num_workers=args.workers
    )
    while True:
        with torch.no_grad():
            scores = torch.cat([torch.sigmoid(model(pixels.to(args.device))) for pixels, _ in loader]).cpu().numpy()
        values = []
        for column in columns:
            known = manifest.targets[:, column] >= 0
            values.append(average_precision_score(manifest.targets[known, column], scores[known, column]))
        yield float(np.mean(values))


def ours(
    file: Path, manifest: Manifest, columns: list[int], args: argparse.Namespace, precision: str
) -> Iterator[float]:
    """The mAP of mlrec's evaluation, each time it is asked."""
    model, size = load_model(file), default_eval_batch(BATCH, torch.device(args.device))
    while True:
        made = predict(
            model,
            manifest,
            InferenceOptions(batch_size=size, device=args.device, precision=precision, workers=args.workers),
        )
        yield evaluate(made.logits[:, columns], manifest.targets[:, columns], scores="logits").mAP or 0.0


if __name__ == "__main__":
    main()
