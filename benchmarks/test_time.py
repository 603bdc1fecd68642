"""Gain and cost of test-time augmentation, with paired intervals over images and seeds.

    python benchmarks/test_time.py finetuned/mirflickr14-mlrec/seed* [--views flip --views flip,1,1.25]

The runs are one method with several seeds. Each is evaluated once without augmentation and once per --views, in the
same process and order. Printed per --views: mAP, its difference from the evaluation without augmentation, and the time
relative to it.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from mlrec.metrics.summary import Metrics
from mlrec.workflows.evaluate.evaluate import evaluate_run
from mlrec.workflows.report.frames import compare
from mlrec.workflows.runtime import RuntimeOptions

VIEWS = ("flip", "1,1.25", "flip,1,1.25")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--views", action="append", metavar="VIEWS", help=f"default: {'; '.join(VIEWS)}")
    parser.add_argument("--work", type=Path, default=Path("test-time"), help="folder of the evaluations")
    args = parser.parse_args()
    plain, seconds = evaluated(args.runs, None, args.work)
    print("| views | mAP | difference | time |\n|---|---|---|---|")
    print(f"| none | {mean_map(plain):.1f} | | 1 |", flush=True)
    for views in args.views or VIEWS:
        folders, spent = evaluated(args.runs, views, args.work)
        line = compare(folders, plain)["metrics"].loc["mAP"]
        value, low, high = (100 * float(line[key]) for key in ("difference", "low", "high"))
        gain = f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
        print(f"| {views} | {mean_map(folders):.1f} | {gain} | {spent / seconds:.1f} |", flush=True)


def evaluated(runs: list[Path], views: str | None, work: Path) -> tuple[list[Path], float]:
    """The folders of the evaluations, one per run, and the seconds that they took."""
    folders, begun = [], time.perf_counter()
    for run in runs:
        found = evaluate_run(run, machine=RuntimeOptions(tta=views))
        folder = work / run.parent.name / run.name / (views or "none")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run / "run.json", folder.parent)  # says that all views are of one model
        shutil.copytree(found.path, folder)
        folders.append(folder)
    return folders, time.perf_counter() - begun


def mean_map(folders: list[Path]) -> float:
    values = [100 * (Metrics.load(folder / "metrics.json").mAP or 0.0) for folder in folders]
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
