"""How long `mlrec prepare` takes, and how much memory: a COCO-2014-sized file without images.

    python benchmarks/prepare.py

The annotations are drawn: 82,783 images, 605,000 annotations of 80 categories with polygons, which make about 335 MB.
What is measured is the whole process, from the start of Python to the written dataset.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

IMAGES, ANNOTATIONS, CATEGORIES = 82_783, 605_000, 80
SECONDS, MEGABYTES = 3.0, 800


def draw(file: Path) -> None:
    """Write an annotation file that looks like instances_train2014.json."""
    rng = random.Random(0)
    images = [
        {
            "license": 5,
            "file_name": f"COCO_train2014_{k:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/train2014/COCO_train2014_{k:012d}.jpg",
            "height": 480,
            "width": 640,
            "date_captured": "2013-11-14 16:28:13",
            "flickr_url": f"http://farm4.staticflickr.com/3153/{k:010d}_5b1c2f6e2e_z.jpg",
            "id": k,
        }
        for k in range(1, IMAGES + 1)
    ]
    polygons = [[round(rng.uniform(0, 640), 2) for _ in range(2 * rng.randint(8, 43))] for _ in range(1000)]
    categories = [{"supercategory": "thing", "id": k, "name": f"category {k}"} for k in range(1, CATEGORIES + 1)]
    with file.open("w") as stream:
        stream.write(json.dumps({"info": {"year": 2014}, "images": images, "licenses": []})[:-1] + ', "annotations": [')
        for k in range(ANNOTATIONS):
            image = rng.randint(1, IMAGES - 702)
            annotation = {
                "segmentation": [rng.choice(polygons)],
                "area": 702.1057499999998,
                "iscrowd": 0,
                "image_id": image,
                "bbox": [round(rng.uniform(0, 600), 2) for _ in range(4)],
                "category_id": 1 + (7 * image + rng.randint(0, 2)) % CATEGORIES,
                "id": k + 1,
            }
            stream.write(("" if k == 0 else ", ") + json.dumps(annotation))
        stream.write('], "categories": ' + json.dumps(categories) + "}")


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak resident megabytes of `command`."""
    begun = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - begun
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return seconds, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "annotations").mkdir()
        (root / "train2014").mkdir()
        file = root / "annotations" / "instances_train2014.json"
        draw(file)
        print(f"{file.stat().st_size / 1e6:.0f} MB, {ANNOTATIONS:,} annotations")
        out = str(root / "data")
        command = [sys.executable, "-m", "mlrec", "prepare", "coco", folder, "--no-verify", "--out", out]
        measure(command)  # once, so that the file lies in the cache
        seconds, megabytes = measure(command)
        print(f"{seconds:.2f} s (limit {SECONDS}), {megabytes:.0f} MB (limit {MEGABYTES})")
    raise SystemExit(0 if seconds <= SECONDS and megabytes <= MEGABYTES else 1)


if __name__ == "__main__":
    main()
