"""Train on your own data: a CSV file and photographs → dataset → frozen training → metrics.

The photographs are drawn, so that the example runs anywhere. With your own files, start at `prepare`.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mlrec.datasets.readers.registry import ReadOptions
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.train.train import train

COLORS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 220)}
SIDE = 64  # pixels


def draw_photograph(present: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Draw one disc for each color that is present, on a gray background with noise."""
    image = Image.fromarray(rng.integers(90, 140, (SIDE, SIDE, 3), dtype=np.uint8))
    canvas = ImageDraw.Draw(image)
    for color in np.array(list(COLORS.values()))[present]:
        x, y = rng.integers(0, SIDE - 24, 2)
        canvas.ellipse((x, y, x + 24, y + 24), fill=tuple(color))
    return image


def write_photographs(folder: Path, table: Path, count: int = 160) -> None:
    """Write `count` images and the CSV file that labels them; every fourth image is for validation."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "split", *COLORS])
        for number in range(count):
            present = rng.random(len(COLORS)) < 0.4
            name = f"{number:03}.png"
            draw_photograph(present, rng).save(folder / name)
            rows.writerow([name, "val" if number % 4 == 0 else "train", *present.astype(int)])


def main() -> None:
    """Prepare, train, and print the metrics of the validation split."""
    write_photographs(Path("photos"), Path("labels.csv"))

    # 1. Check the table, decode every image once, write data/photos. Errors name the line and the column.
    dataset = prepare("csv", "labels.csv", name="photos", options=ReadOptions(images=Path("photos")))
    print(f"{dataset.path}: labels {', '.join(dataset.info.labels)}; samples {dataset.info.splits}")

    # 2. Compute the features of a frozen backbone once and train a CSRA head on them. test_vit is a very small timm
    #    model with random weights. For photographs: backbone "resnet50", pretrained True, img_size 448.
    settings = {"data": "data/photos", "backbone": "test_vit", "pretrained": False, "img_size": SIDE}
    settings |= {"freeze_backbone": True, "head": "csra", "lam": 0.5}
    settings |= {"opt": "adamw", "lr": 0.03, "epochs": 20, "batch_size": 16, "device": "cpu", "workers": 0}
    run = train(settings, name="csra")

    # 3. The run folder contains metrics, predictions and weights.
    metrics = run.metrics()
    print(f"{run.path}: mAP {metrics.mAP:.1%}, CF1 {metrics.CF1:.1%}, OF1 {metrics.OF1:.1%}")
    for label, ap in metrics.average_precision.items():
        print(f"  {label:<6} AP {ap:.1%}")


if __name__ == "__main__":
    main()
