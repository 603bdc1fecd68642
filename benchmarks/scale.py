"""Time and memory of mlrec on large tables: each work in a process of its own, on synthetic data.

    python benchmarks/scale.py --rows 100_000 1_000_000 --against PATH     # ratios to the code in another checkout
    python benchmarks/scale.py --rows 10_000_000 --work prepare stats split score
    python benchmarks/scale.py --work many-labels-stats many-labels-split  # 100,000 rows x 9,000 labels, 5 per row
    python benchmarks/scale.py --rows 1_000_000 --work load start          # loading, and the start of training

The tables have 80 labels, three positives per row on average, and images that do not exist; all are made from fixed
seeds. Wall-clock time depends on what else runs on the machine; the peak of memory (resident pages) does not. `start`
also measures how much memory each dataloader worker has of its own, for each way to start it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
LABELS, MANY_LABELS, MANY_ROWS, PER_ROW = 80, 9_000, 100_000, 5
BLOCK = 100_000
NAME = "img/{:09d}.jpg"
LOAD = "from mlrec.datasets.manifest import Manifest; print(len(Manifest.load({!r})))"
COMMANDS = {
    "prepare": ["prepare", "csv", "{table}", "--no-verify", "--name", "large"],
    "stats": ["stats", "data/large"],
    "split": ["split", "data/large"],
    "score": ["score", "{scores}", "data/large", "--split", "all"],
    "many-labels-prepare": ["prepare", "csv", "{many}", "--no-verify", "--name", "many"],
    "many-labels-stats": ["stats", "data/many"],
    "many-labels-split": ["split", "data/many"],
}
WORKS = (*COMMANDS, "load", "start")


@dataclass(frozen=True)
class Measured:
    """Seconds by the clock and of the processor, and the peak of resident memory in MB, of one process."""

    seconds: float
    processor: float
    peak: float
    output: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--work", nargs="+", choices=WORKS, default=["prepare", "stats", "split", "score", "load"])
    parser.add_argument("--against", type=Path, help="Checkout of the code to compare with.")
    parser.add_argument("--scratch", type=Path, help="Folder for the data, 5 GB for 10 million rows.")
    asked = parser.parse_args()
    sides = {"now": HERE} | ({"before": asked.against.resolve()} if asked.against else {})
    print(f"{'rows':>11s} {'work':20s} {'side':7s} {'s':>8s} {'cpu s':>8s} {'peak MB':>8s}", flush=True)
    with tempfile.TemporaryDirectory(dir=asked.scratch) as name:
        for rows in asked.rows:
            scratch = Path(name) / str(rows)
            scratch.mkdir()
            measure(rows, asked.work, sides, scratch)
            shutil.rmtree(scratch)


def measure(rows: int, works: list[str], sides: dict[str, Path], scratch: Path) -> None:
    """Run the works on a table of this size, on each side, and print a line for each."""
    files = {"table": scratch / "large.csv", "scores": scratch / "scores.npz", "many": scratch / "many.csv"}
    if any(not work.startswith("many") for work in works):
        written(write_table, files["table"], rows)
    if "score" in works:
        written(write_scores, files["scores"], rows)
    if any(work.startswith("many") for work in works):
        written(write_many, files["many"])
    needed = ["many-labels-prepare"] if any(work.startswith("many") for work in works) else []
    needed += ["prepare"] if any(not work.startswith("many") for work in works) else []
    for work in [*(work for work in needed if work not in works), *works]:
        found = {}
        for side, code in sides.items():
            folder = scratch / side
            folder.mkdir(exist_ok=True)
            for label, words in commands(work, files, folder):
                measured = found[side] = run(words, folder, code)
                size = MANY_ROWS if work.startswith("many") else rows
                print(
                    f"{size:11,d} {label:20s} {side:7s} {measured.seconds:8.1f} {measured.processor:8.1f} "
                    f"{measured.peak:8.0f}  {measured.output}",
                    flush=True,
                )
        if len(found) == 2:
            now, before = found["now"], found["before"]
            time_ratio, peak_ratio = now.processor / before.processor, now.peak / before.peak
            print(f"{'':11s} {work:20s} {'ratio':7s} {'':8s} {time_ratio:8.2f} {peak_ratio:8.2f}", flush=True)


def commands(work: str, files: dict[str, Path], folder: Path) -> list[tuple[str, list[str]]]:
    """The command lines of a work, each with what it is called in the output."""
    if work in COMMANDS:
        return [(work, ["-m", "mlrec", *(word.format(**files) for word in COMMANDS[work])])]
    manifest = str(folder / "data/large/all.jsonl")
    if work == "load":
        return [("load", ["-c", LOAD.format(manifest)])]
    script = str(HERE / "benchmarks/scale_start.py")
    return [(f"start, {method}", [script, manifest, method]) for method in ("fork", "spawn", "forkserver")]


def run(words: list[str], folder: Path, code: Path) -> Measured:
    """Run Python with these arguments, in `folder`, with the package of the checkout `code`."""
    begun = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(code)}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begun
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}\n{text}")
    last = text.strip().rpartition("\n")[2] if words[0] != "-m" else ""
    return Measured(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, last)


def written(write: Callable[..., None], *given: object) -> None:
    """Write a file in another process: the peak of a process counts what the one that started it had in memory."""
    process = multiprocessing.get_context("spawn").Process(target=write, args=given)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{write.__name__} failed")


def prevalences() -> np.ndarray:
    """Prevalence of each label: three positives per row, the most frequent label a hundred times the rarest."""
    weights = np.geomspace(1, 0.01, LABELS)
    return 3 * weights / weights.sum()


def write_table(path: Path, rows: int) -> None:
    """Write a table with one column per label."""
    rng, prevalence = np.random.default_rng(0), prevalences()
    name = len(NAME.format(0))
    line = np.frombuffer((NAME.format(0) + ",0" * LABELS + "\n").encode(), np.uint8)
    with path.open("wb") as stream:
        stream.write(("filename," + ",".join(f"label{k}" for k in range(LABELS)) + "\n").encode())
        for begin in range(0, rows, BLOCK):
            count = min(BLOCK, rows - begin)
            block = np.tile(line, (count, 1))
            for digit in range(9):
                block[:, 12 - digit] = ord("0") + (np.arange(begin, begin + count) // 10**digit) % 10
            block[:, name + 1 : -1 : 2] += rng.random((count, LABELS), dtype=np.float32) < prevalence
            stream.write(block.tobytes())


def write_scores(path: Path, rows: int) -> None:
    """Write logits of the table, without compression."""
    from mlrec.utils.large_arrays import save_large
    from mlrec.utils.texts import Texts

    rng = np.random.default_rng(1)
    logits = np.lib.format.open_memmap(path.with_suffix(".npy"), "w+", np.float32, (rows, LABELS))
    for begin in range(0, rows, BLOCK):
        logits[begin : begin + BLOCK] = rng.standard_normal((min(BLOCK, rows - begin), LABELS), dtype=np.float32)
    names = np.array([f"label{k}" for k in range(LABELS)])
    with path.open("wb") as stream:
        save_large(
            stream, {"logits": logits, "sample_ids": Texts.of(NAME.format(k) for k in range(rows)), "labels": names}
        )
    path.with_suffix(".npy").unlink()


def write_many(path: Path) -> None:
    """Write a table with a column of names of labels."""
    rng = np.random.default_rng(2)
    weights = 1 / np.arange(1, MANY_LABELS + 1)
    cumulated = np.cumsum(weights / weights.sum())
    with path.open("w") as stream:
        stream.write("filename,labels\n")
        for k in range(MANY_ROWS):
            chosen = {k % MANY_LABELS, *np.searchsorted(cumulated, rng.random(PER_ROW - 1)).tolist()}
            stream.write(f"{NAME.format(k)},{'|'.join(f'label{label}' for label in sorted(chosen))}\n")


if __name__ == "__main__":
    main()
