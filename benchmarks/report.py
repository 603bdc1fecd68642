"""How long `mlrec report` takes over 100 runs: the command, its imports included, against the bare interpreter.

python benchmarks/report.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mlrec.metrics.evaluate import evaluate
from mlrec.predictions import Predictions
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord, SplitRecord

RUNS, SAMPLES, LABELS, ROUNDS = 100, 500, 20, 5


def write_run(folder: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    targets = (np.random.default_rng(0).random((SAMPLES, LABELS)) < 0.1).astype(np.int8)
    logits = (rng.normal(size=targets.shape) + 2 * targets).astype(np.float32)
    labels = tuple(f"label{k}" for k in range(LABELS))
    folder.mkdir(parents=True)
    RunRecord(
        name=folder.name,
        status="finished",
        config={"backbone": "resnet101", "head": "csra", "heads": 1, "lam": number / RUNS, "img_size": 448},
        started=f"2026-01-01T00:00:{number:02d}",
        finished="2026-01-01T01:00:00",
        scored=SplitRecord(dataset="toy", kind="csv", split="test", samples=SAMPLES, digest="d"),
    ).save(folder)
    Predictions(labels, tuple(map(str, range(SAMPLES))), logits, targets).save(folder / directory.PREDICTIONS)
    evaluate(logits, targets, labels=labels, scores="logits").save(folder / directory.METRICS)


def seconds(*command: str) -> float:
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - begun)
    return min(taken)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        for number in range(RUNS):
            write_run(runs / f"run-{number:03d}", number)
        stored = seconds("-m", "mlrec", "report", "--runs-root", str(runs))
        anew = seconds("-m", "mlrec", "report", "--runs-root", str(runs), "--conventions", "csra")
        bare = seconds("-c", "pass")
    print(f"best of {ROUNDS}: {RUNS} runs of {SAMPLES} x {LABELS}")
    print(f"bare interpreter                   {bare:.2f} s")
    print(f"mlrec report                       {stored:.2f} s")
    print(f"mlrec report --conventions csra    {anew:.2f} s (scored anew from stored predictions)")


if __name__ == "__main__":
    main()
