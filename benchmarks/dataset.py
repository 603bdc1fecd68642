"""How long `mlrec stats` and `mlrec split` take as whole processes, from the start of the interpreter to its end.

    python benchmarks/dataset.py LABELS.csv... [--times 5] [--whole-coco]

Each table of labels is prepared without its images, then both commands run in turn: seconds by the clock, and of the
processor, which other work on the machine lengthens less. `--whole-coco` adds the first table
repeated under new names up to the size of COCO-2014: 82,081 training and 40,137 validation images.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WHOLE_COCO = {"train": 82_081, "val": 40_137}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", nargs="+", type=Path)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--whole-coco", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tables = [path.absolute() for path in asked.labels]
        if asked.whole_coco:
            tables.append(enlarged(tables[0], Path(scratch) / "whole_coco.csv"))
        print(f"{'labels':34s} {'command':8s} {'median s':>9s} {'slowest':>9s} {'processor':>10s}")
        for table in tables:
            mlrec(scratch, "prepare", "csv", str(table), "--no-verify", "--name", table.stem)
            commands = {"stats": ["stats", f"data/{table.stem}"], "split": ["split", f"data/{table.stem}"]}
            if table.stem == "whole_coco":
                commands["split"] += ["--from", "train", "--prefix", "new-"]
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
            for name, words in itertools.chain(*[commands.items()] * asked.times):
                begun, used = time.perf_counter(), processor()
                mlrec(scratch, *words)
                taken[name].append((time.perf_counter() - begun, processor() - used))
            for name, runs in taken.items():
                clock, cpu = zip(*runs, strict=True)
                middle = statistics.median
                print(f"{table.stem:34s} {name:8s} {middle(clock):9.2f} {max(clock):9.2f} {middle(cpu):10.2f}")


def processor() -> float:
    """Seconds of the processor that finished children took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def mlrec(folder: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "mlrec", *words], cwd=folder, check=True, capture_output=True)


def enlarged(table: Path, path: Path) -> Path:
    header, *rows = table.read_text().splitlines()
    numbered = enumerate(itertools.cycle(rows))
    with path.open("w") as stream:
        stream.write(f"{header},split\n")
        for split, count in WHOLE_COCO.items():
            stream.writelines(f"{k}-{row},{split}\n" for k, row in itertools.islice(numbered, count))
    return path


if __name__ == "__main__":
    main()
