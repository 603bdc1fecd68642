"""What threads that wait for one another cost: a training step under three ways of waiting, in alternation.

    python benchmarks/waiting.py                       # tf_efficientnet_lite0 at 224 px, one image, two threads

GNU OpenMP reads how to wait once, when torch is loaded, so each way has a process of its own; they take turns, a step
each. An idle machine and one that others use, too, give other figures: the first line tells the load.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from paired import ratio_interval

WAYS = {
    "default": {},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--turns", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turns:
        take_turns(args)
        return
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    command = [sys.executable, __file__, "--turns", *sys.argv[1:]]
    children = {
        way: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean | given)
        for way, given in WAYS.items()
    }
    for child in children.values():
        asked(child)  # loads and warms up
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way, child in children.items():
            taken[way].append(asked(child))
    for child in children.values():
        child.communicate()
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores; {args.threads} threads a process")
    for way, pairs in taken.items():
        clock, cpu = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = [base[1] / pair[1] for base, pair in zip(taken["default"], pairs, strict=True)]
        middle, low, high = ratio_interval(ratios)
        shown = f"{clock:.2f} s by the clock, {cpu:.2f} s of CPU"
        print(f"{way:24} {shown}; default takes {middle:.1f} times its CPU ({low:.1f}-{high:.1f})")


def asked(child: subprocess.Popen[str]) -> tuple[float, float]:
    """Let a process take a turn; its seconds by the clock and of the processor."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    clock, cpu = child.stdout.readline().split()
    return float(clock), float(cpu)


def take_turns(args: argparse.Namespace) -> None:
    """A step for each line read."""
    import timm
    import torch

    torch.set_num_threads(args.threads)
    model = timm.create_model(args.backbone, num_classes=20).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    shape = (args.batch_size, 3, args.img_size, args.img_size)
    images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    for _ in sys.stdin:
        clock, cpu = time.perf_counter(), time.process_time()
        torch.nn.functional.softplus(model(images)).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        print(time.perf_counter() - clock, time.process_time() - cpu, flush=True)


if __name__ == "__main__":
    main()
