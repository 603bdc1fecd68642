"""Recipe `mlrec` and the paper's with the same number of images seen, and the share of each part of `mlrec`.

    python benchmarks/recipes.py data/voc2007 --epochs 6 --img-size 224 --out recipes
    python benchmarks/recipes.py data/voc2007 --epochs 6 --img-size 224 --out recipes --rows mlrec,no-ema,sgd
    python benchmarks/recipes.py data/voc2007 --epochs 6 --img-size 224 --out recipes --table   # trains nothing

Trains each row with each seed (`mlrec train`), --jobs at a time, and scores the test split once, after the last epoch.
Finished runs in --out are not trained again. The pass that computes the features of the head phase counts as an epoch.
Printed: mean and sd of mAP over the seeds, and the difference from the first row with its paired 95% interval over
images and seeds. The first half of ROWS compares recipes. Each other row changes one part of `mlrec`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlrec.run_folders.record import Run
from mlrec.workflows.report.frames import compare

Flags = list[str]


def mlrec_recipe(*change: str, without_pass: int = 1) -> Callable[[int], Flags]:
    return lambda epochs: ["--recipe", "mlrec", "--epochs", str(epochs - without_pass), *change]


def paper_recipe(*head: str) -> Callable[[int], Flags]:
    """The paper's recipe; its steps of 0.1 every five epochs and two epochs of warm-up do not fit short trainings."""
    short = ["--recipe", "paper", "--lr-schedule", "cosine", "--warmup-epochs", "0.5"]
    return lambda epochs: [*short, "--epochs", str(epochs), *head]


AVERAGE = ("--head", "average", "--head-lr-mult", "10")  # at the learning rate of CSRA's head
ROWS: dict[str, Callable[[int], Flags]] = {
    "mlrec": mlrec_recipe(),
    "paper-csra": paper_recipe("--head", "csra"),
    "paper-average": paper_recipe(*AVERAGE),
    "mlrec-half": lambda epochs: mlrec_recipe()(epochs // 2),
    "frozen": lambda _: ["--recipe", "demo", "--heads", "1", "--lam", "0.5", "--unknown", "ignore"],
    "mlrec-30": lambda _: mlrec_recipe()(30),
    "paper-csra-30": lambda _: ["--recipe", "paper", "--head", "csra"],
    "paper-average-30": lambda _: ["--recipe", "paper", *AVERAGE],
    "no-head-phase": mlrec_recipe("--head-epochs", "0", without_pass=0),
    "batch-statistics": mlrec_recipe("--no-freeze-bn"),
    "no-layer-decay": mlrec_recipe("--layer-decay", "1"),
    "no-ema": mlrec_recipe("--no-ema"),
    "no-clipping": mlrec_recipe("--clip-grad", "0"),
    "constant-lr": mlrec_recipe("--lr-schedule", "constant"),
    "sgd": mlrec_recipe("--opt", "sgd", "--lr", "0.01", "--weight-decay", "1e-4"),
    "lambda-0": mlrec_recipe("--lam", "0"),
    "average": mlrec_recipe("--head", "average"),
    "attention-pool": mlrec_recipe("--head", "attention-pool"),
    "ml-decoder": mlrec_recipe("--head", "ml-decoder"),
    "q2l": mlrec_recipe("--head", "q2l"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, required=True, help="images seen in each row, in passes over the data")
    parser.add_argument("--rows", default="mlrec,paper-csra,paper-average,mlrec-half,frozen", help=", ".join(ROWS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="efficientnet-lite0")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--workers", type=int, help="dataloader workers of each run")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no training starts after this time")
    parser.add_argument("--table", action="store_true", help="only print the table of finished runs")
    parser.add_argument("--out", type=Path, default=Path("recipes"))
    args = parser.parse_args()
    rows, seeds = args.rows.split(","), [int(seed) for seed in args.seeds.split(",")]
    if unknown := set(rows) - set(ROWS):
        parser.error(f"--rows: no row named {', '.join(sorted(unknown))}")
    end = time.monotonic() + args.seconds
    if not args.table:
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda run: train(args, *run, end), [(row, seed) for row in rows for seed in seeds]))
    print_table({row: [folder for seed in seeds if finished(folder := run_folder(args, row, seed))] for row in rows})


def run_folder(args: argparse.Namespace, row: str, seed: int) -> Path:
    return args.out / args.data.name / f"{row}-seed{seed}"


def finished(folder: Path) -> bool:
    return (folder / "metrics.json").exists()


def train(args: argparse.Namespace, row: str, seed: int, end: float) -> None:
    folder = run_folder(args, row, seed)
    if finished(folder) or time.monotonic() > end:
        return
    words = ["train", str(args.data), "--backbone", args.backbone, "--weights", args.weights, "--seed", str(seed)]
    words += ["--img-size", str(args.img_size), "--out", str(folder.parent), "--name", folder.name, "--threads", "1"]
    words += [] if args.workers is None else ["--workers", str(args.workers)]
    words += ROWS[row](args.epochs)
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "mlrec", *words], capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1] if done.returncode and done.stderr else ""
    print(f"{args.data.name} {row} seed {seed}: {time.monotonic() - begun:.0f} s {last}", file=sys.stderr, flush=True)


def print_table(runs: dict[str, list[Path]]) -> None:
    runs = {row: folders for row, folders in runs.items() if folders}
    print("| row | seeds | mAP | sd | first row − this row |\n|---|---|---|---|---|")
    for k, (row, folders) in enumerate(runs.items()):
        values = [100 * float(Run.load(folder).metrics().mAP) for folder in folders]
        sd = f"{statistics.stdev(values):.1f}" if len(values) > 1 else ""
        difference = ""
        if k:
            first = next(iter(runs.values()))[: len(folders)]
            line = compare(first, folders)["metrics"].loc["mAP"]
            value, low, high = (100 * float(line[key]) for key in ("difference", "low", "high"))
            difference = f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
        print(f"| {row} | {len(values)} | {statistics.mean(values):.1f} | {sd} | {difference} |", flush=True)


if __name__ == "__main__":
    main()
