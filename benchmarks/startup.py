"""How long `mlrec --help` takes, beside an interpreter that does nothing. Run: python benchmarks/startup.py"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

LINES = {
    "python -c pass": ["-c", "pass"],
    "mlrec --help": ["-m", "mlrec", "--help"],
    "mlrec score --help": ["-m", "mlrec", "score", "--help"],
    "mlrec report --help": ["-m", "mlrec", "report", "--help"],
}
TIMES = 9


def seconds(arguments: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    taken: dict[str, list[float]] = {name: [] for name in LINES}
    for _ in range(TIMES):  # in turn, so that a busy moment of the machine meets them all
        for name, arguments in LINES.items():
            taken[name].append(seconds(arguments))
    for name, values in taken.items():
        print(f"{name:22} median {statistics.median(values):.2f} s, fastest {min(values):.2f} s")


if __name__ == "__main__":
    main()
