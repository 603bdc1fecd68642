"""Everything that only a GPU can show, in order of value, each check with its pass figure; ends at its time limit.

    python benchmarks/gpu.py                              # on one GPU, 500 seconds, photographs are drawn
    python benchmarks/gpu.py --photos VOCdevkit --seconds 1500
    python benchmarks/gpu.py --small                      # the same checks on a CPU, small: shows that they run

Writes a Markdown table to --out after each check, so that a run that is killed leaves what it has measured. Quote the
first line, which names the card, with every number. Exit code 1 if a check fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gpu_commands
import gpu_model
import gpu_rates
import torch
from paired import describe_machine

Verdict = Literal["pass", "FAIL", "shown", "not run"]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    check: str
    measured: str
    aim: str
    verdict: Verdict


@dataclass(frozen=True)
class Bench:
    """What the checks need.

    Attributes:
        device: what is checked.
        small: models and images that a CPU runs in seconds.
        folder: for datasets and runs.
        photos: folder of JPEGs; None = images are drawn.
        end: when the time is up, by the monotonic clock.
    """

    device: torch.device
    small: bool
    folder: Path
    photos: Path | None
    end: float

    @property
    def seconds_left(self) -> float:
        """Until the time limit."""
        return self.end - time.monotonic()

    @property
    def cuda(self) -> bool:
        """Whether a GPU is checked."""
        return self.device.type == "cuda"


CHECKS: dict[str, Callable[..., Iterator[tuple[str, str, str, bool | None]]]] = {
    "training": gpu_rates.training_rates,
    "evaluation": gpu_rates.evaluation_rates,
    "ways": gpu_rates.ways,
    "kernels of a step": gpu_rates.kernels_of_a_step,
    "no waiting": gpu_model.no_waiting,
    "CSRA": gpu_rates.csra,
    "same bits": gpu_commands.same_bits,
    "predict and eval": gpu_commands.predict_and_eval,
    "two processes": gpu_commands.two_processes,
    "out of memory": gpu_commands.out_of_memory,
    "signal": gpu_commands.signal_ends_training,
    "memory": gpu_rates.memory,
    "doctor": gpu_commands.doctor,
    "kernels": gpu_rates.kernels,
    "default bits": gpu_commands.default_bits,
    "sync-bn": gpu_model.sync_bn,
    "parity": gpu_model.parity,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=500, help="time limit; no check starts after it")
    parser.add_argument("--small", action="store_true", help="on a CPU, in minutes")
    parser.add_argument("--photos", type=Path, help="folder of JPEGs [default: drawn images]")
    parser.add_argument("--only", help=f"some of: {', '.join(CHECKS)}", metavar="A,B,...")
    parser.add_argument("--out", type=Path, default=Path("gpu.md"), help="file of the table")
    args = parser.parse_args()
    chosen = list(CHECKS) if args.only is None else args.only.split(",")
    if unknown := set(chosen) - set(CHECKS):
        parser.error(f"--only: no check named {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    if not args.small and not torch.cuda.is_available():
        parser.error("no CUDA GPU on this machine; --small runs the same checks on a CPU")
    device = torch.device("cpu") if args.small else torch.device("cuda", 0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="mlrec-gpu-", ignore_cleanup_errors=True) as folder:
        bench = Bench(device, args.small, Path(folder), args.photos, time.monotonic() + args.seconds)
        for name in chosen:
            for row in run(name, bench):
                rows.append(row)
                print(f"{row.verdict:8} {row.check}: {row.measured} (to reach: {row.aim})", flush=True)
                args.out.write_text(table(rows), encoding="utf-8")
    print(f"written to {args.out}")
    sys.exit(any(row.verdict == "FAIL" for row in rows))


def run(name: str, bench: Bench) -> Iterator[Row]:
    """The rows of a check; one that breaks fails, and does not keep the others from running."""
    begun = time.monotonic()
    if bench.seconds_left <= 0:
        yield Row(name, "time limit", "", "not run")
        return
    try:
        for check, measured, aim, passed in CHECKS[name](bench):
            yield Row(check, measured, aim, verdict_of(passed))
    except gpu_commands.OutOfTime:
        yield Row(name, "time limit", "", "not run")
    except Exception as error:  # noqa: BLE001 - whatever breaks is the finding
        traceback.print_exc()
        yield Row(name, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", "", "FAIL")
    finally:
        print(f"         {name}: {time.monotonic() - begun:.0f} s", flush=True)
        if bench.cuda:
            torch.cuda.empty_cache()


def verdict_of(passed: bool | None) -> Verdict:
    """None: a figure without an aim, or a check that this device cannot do."""
    if passed is None:
        return "shown"
    return "pass" if passed else "FAIL"


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [describe_machine(), "", "| check | measured | to reach | |", "|---|---|---|---|"]
    lines += [f"| {row.check} | {row.measured} | {row.aim} | {row.verdict} |".replace("\n", " ") for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
