"""The four rows of a fair comparison, trained end to end on one GPU: what CSRA adds under the paper's recipe.

    python benchmarks/gpu_compare.py data/voc2007 data/mirflickr14 --out compare --seconds 3000
    python benchmarks/gpu_compare.py data/voc2007 --small --out compare       # 64 px on a CPU: shows that it runs

For each dataset and each backbone (ResNet-50 from scratch, EfficientNet-Lite0 from ImageNet weights, both at 448 px)
it runs `mlrec sweep --study compare` with five seeds: average pooling with the paper's learning rate, average pooling
with CSRA's head learning rate, CSRA with λ = 0, CSRA. Started again with the same --out, it resumes. The table of each
sweep, with paired intervals, is written to OUT/tables.md.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

BACKBONES = {
    "resnet50-scratch": ["--backbone", "resnet50", "--no-pretrained"],
    "lite0": ["--backbone", "tf_efficientnet_lite0", "--weights", "efficientnet-lite0"],
}
SMALL = [
    "--img-size",
    "64",
    "--batch-size",
    "8",
    "--epochs",
    "1",
    "--device",
    "cpu",
    "--threads",
    "1",
    "--workers",
    "0",
]
GRACE = 60.0  # seconds that a stopped sweep has to write its checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="folders of prepared datasets")
    parser.add_argument("--seeds", default="0,1,2,3,4", metavar="A,B,...")
    parser.add_argument("--seconds", type=float, default=3000, help="time limit; then the running sweep is stopped")
    parser.add_argument("--out", type=Path, default=Path("compare"), help="folder of the sweeps")
    parser.add_argument("--small", action="store_true", help="two seeds at 64 px on a CPU")
    parser.add_argument("--recipe", metavar="NAME", help="recipe of all runs [default: the dataset's]")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=V", help="further settings of all runs")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    args.out.mkdir(parents=True, exist_ok=True)
    settings = SMALL if args.small else ["--img-size", "448"]
    settings += ["--recipe", args.recipe] if args.recipe else []
    settings += [word for setting in args.set for word in ("--set", setting)]
    tables: list[str] = []
    for folder in args.data:
        for name, backbone in BACKBONES.items():
            study = f"{folder.name}-{name}"
            seeds = "0,1" if args.small else args.seeds
            words = ["sweep", "--study", "compare", "--data", str(folder), "--seeds", seeds, *backbone, *settings]
            run([*words, "--out", str(args.out), "--name", study], end)
            shown = mlrec(["report", "--study", str(args.out / study), "--intervals", "--format", "md"])
            tables.append(f"## {study}\n\n{shown.stdout if not shown.returncode else shown.stderr}")
            (args.out / "tables.md").write_text("\n".join(tables), encoding="utf-8")
    print("\n".join(tables))


def mlrec(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mlrec", *words], capture_output=True, text=True, check=False)


def run(words: list[str], end: float) -> None:
    """A command that is stopped with SIGTERM when the time is up; it leaves what a later start resumes."""
    left = end - time.monotonic()
    if left <= 0:
        return
    print(f"mlrec {' '.join(words)}", flush=True)
    with subprocess.Popen([sys.executable, "-m", "mlrec", *words]) as process:
        try:
            process.wait(left)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            process.kill()


if __name__ == "__main__":
    main()
