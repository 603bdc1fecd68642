"""What threads that wait for one another cost: a training step under several ways of waiting, in alternation.

    python benchmarks/waiting.py                       # tf_efficientnet_lite0 at 224 px, one image, two threads

GNU OpenMP reads how to wait once, when torch is loaded, so each way has a process of its own; they take turns, a step
each. An idle machine and one that others use, too, give other figures: the first line tells the load.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator

from paired import AS_MLREC, Side, Turn, ratio_interval

WAYS = {
    "torch's default": {},
    "mlrec": AS_MLREC,
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
    args = parser.parse_args()
    sides = {way: Side(steps, args, environment=given) for way, given in WAYS.items()}
    for side in sides.values():
        side.take_turn()  # loads and warms up
    taken: dict[str, list[Turn[None]]] = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way, side in sides.items():
            taken[way].append(side.take_turn())
    for side in sides.values():
        side.end()
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores; {args.threads} threads a process")
    first = next(iter(taken.values()))
    for way, turns in taken.items():
        clock, cpu = (statistics.median(column) for column in zip(*(turn[:2] for turn in turns), strict=True))
        ratios = [base.cpu_seconds / turn.cpu_seconds for base, turn in zip(first, turns, strict=True)]
        middle, low, high = ratio_interval(ratios)
        shown = f"{clock:.2f} s by the clock, {cpu:.2f} s of CPU"
        print(f"{way:24} {shown}; default takes {middle:.1f} times its CPU ({low:.1f}-{high:.1f})")


def steps(args: argparse.Namespace) -> Iterator[None]:
    """A training step each time it is asked."""
    import timm
    import torch

    torch.set_num_threads(args.threads)
    model = timm.create_model(args.backbone, num_classes=20).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    shape = (args.batch_size, 3, args.img_size, args.img_size)
    images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    while True:
        torch.nn.functional.softplus(model(images)).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        yield


if __name__ == "__main__":
    main()
