"""How much of the package `mlrec train` and `mlrec eval` use: modules imported, and files in which functions run.

    python benchmarks/imports.py                        # synthetic images, a small backbone, two epochs
    python benchmarks/imports.py --data data/voc2007    # a prepared dataset
    python benchmarks/imports.py --list                 # also the names

Each command runs in a process of its own, as the console script does. Files in which functions run are those that a
reader of the command passes; calls made while a module is imported (decorators, tables) do not count.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

Usage = dict[str, list[str]]
LABELS = ("blue", "green", "red")
SIZES = {"train": 12, "val": 8}
SMALL = ["--backbone", "test_efficientnet", "--no-pretrained", "--img-size", "32", "--batch-size", "4"]
SMALL += ["--epochs", "2", "--workers", "0", "--device", "cpu"]

# Runs a command line and writes what it used to the file `sys.argv[1]`, also where the command ends with SystemExit.
TRACED = """
import json, sys, threading
from pathlib import Path

report, sys.argv = sys.argv[1], ["mlrec", *sys.argv[2:]]
import mlrec

root = str(Path(mlrec.__file__).parent)
files, FUNCTION = set(), 0x1  # CO_OPTIMIZED: not the body of a module or a class

def importing(frame):
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False

def on_call(frame, event, argument):
    code = frame.f_code
    if event != "call" or code.co_filename in files or not code.co_filename.startswith(root):
        return
    if code.co_flags & FUNCTION and not importing(frame):
        files.add(code.co_filename)

from mlrec.__main__ import main

threading.setprofile(on_call)
sys.setprofile(on_call)
try:
    main()
finally:
    sys.setprofile(None)
    modules = sorted(name for name in sys.modules if name == "mlrec" or name.startswith("mlrec."))
    folders = [name for name in modules if hasattr(sys.modules[name], "__path__")]
    names = sorted(str(Path(name).relative_to(root)) for name in files)
    packages = sorted({name.partition(".")[0] for name in sys.modules})
    usage = {"modules": modules, "folders": folders, "files": names, "packages": packages}
    Path(report).write_text(json.dumps(usage))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of a prepared dataset [default: synthetic images].")
    parser.add_argument("--list", action="store_true", help="Print the names of modules and files.")
    args = parser.parse_args()
    for name, usage in measure(args.data).items():
        print(
            f"mlrec {name}: {len(usage['modules'])} modules imported, {len(with_content(usage))} of them with content "
            f"outside of utils; functions called in {len(story(usage))} files outside of utils"
        )
        if args.list:
            print("  modules:", *usage["modules"], sep="\n    ")
            print("  files:", *usage["files"], sep="\n    ")


def measure(data: Path | None = None) -> dict[str, Usage]:
    """Train and evaluate once on a prepared dataset [default: synthetic images]; returns what each command used."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = make_dataset(folder) if data is None else data.absolute()
        train = trace(folder, ["train", "--data", str(data), "--name", "run", *SMALL])
        return {"train": train, "eval": trace(folder, ["eval", "runs/run", "--workers", "0", "--device", "cpu"])}


def with_content(usage: Usage) -> list[str]:
    """Return the imported modules outside of utils that are not the empty `__init__` of a folder."""
    empty = set(usage["folders"])
    return [name for name in usage["modules"] if not name.startswith("mlrec.utils.") and name not in empty]


def story(usage: Usage) -> list[str]:
    """Return the files outside of utils in which functions ran."""
    return [file for file in usage["files"] if not file.startswith("utils/")]


def trace(folder: Path, arguments: list[str]) -> Usage:
    """Run a command in `folder` and return the modules it imported and the files it called functions in."""
    report = folder / "usage.json"
    subprocess.run([sys.executable, "-c", TRACED, str(report), *arguments], cwd=folder, check=True, capture_output=True)
    usage: Usage = json.loads(report.read_text())
    return usage


def make_dataset(folder: Path) -> Path:
    """Write small images with colored squares and prepare them as a dataset with two splits."""
    rng = np.random.default_rng(0)
    with (folder / "tiny.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["filename", *LABELS, "split"])
        for split, count in SIZES.items():
            for k in range(count):
                row = rng.integers(0, 2, 3)
                row[k % 3] = 1
                pixels = rng.integers(0, 60, (36, 44, 3), dtype=np.uint8)
                for channel in np.flatnonzero(row):
                    pixels[4:24, 14 * channel : 14 * channel + 12, 2 - channel] = 255
                Image.fromarray(pixels).save(folder / f"{split}{k}.png")
                writer.writerow([f"{split}{k}.png", *row, split])
    subprocess.run(
        [sys.executable, "-m", "mlrec", "prepare", "csv", "tiny.csv"], cwd=folder, check=True, capture_output=True
    )
    return folder / "data" / "tiny"


if __name__ == "__main__":
    main()
