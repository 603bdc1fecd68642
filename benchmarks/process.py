"""What the settings of mlrec's process are worth on a CPU: a training step under several of them, in alternation.

    python benchmarks/process.py                       # tf_efficientnet_lite0 at 224 px, 16 images, two threads
    python benchmarks/process.py --batch-size 1        # small steps, in which threads wait for one another more often

GNU OpenMP reads how threads wait once, when torch is loaded, and what glibc keeps holds for a whole process, so each
way has a process of its own; they take turns, a step each. An idle machine and one that others use, too, give other
figures: the first line tells the load.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator

from paired import AS_MLREC, Side, Turn, describe_machine, ratio_interval

DEFAULT = "torch's and glibc's default"
WAYS: dict[str, tuple[dict[str, str], bool]] = {  # the environment, and whether freed memory is kept
    DEFAULT: ({}, False),
    "GOMP_SPINCOUNT=1000": ({"GOMP_SPINCOUNT": "1000"}, False),
    "GOMP_SPINCOUNT=10000": (AS_MLREC, False),
    "OMP_WAIT_POLICY=PASSIVE": ({"OMP_WAIT_POLICY": "PASSIVE"}, False),
    "memory kept": ({}, True),
    "mlrec: 10000, memory kept": (AS_MLREC, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    sides = {way: Side(steps, args, keep, environment=given) for way, (given, keep) in WAYS.items()}
    for side in sides.values():
        side.take_turn()  # loads and warms up
    taken: dict[str, list[Turn[None]]] = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way, side in sides.items():
            taken[way].append(side.take_turn())
    for side in sides.values():
        side.end()
    print(f"{describe_machine()}, load {os.getloadavg()[0]:.1f}, {args.threads} threads a process")
    for way, turns in taken.items():
        clock, cpu = (statistics.median(column) for column in zip(*(turn[:2] for turn in turns), strict=True))
        print(f"{way:28} {clock:.2f} s by the clock, {cpu:.2f} s of CPU; {over_default(taken, way)}")


def over_default(taken: dict[str, list[Turn[None]]], way: str) -> str:
    """The default's seconds over those of a way, by the clock and of CPU."""
    told = []
    for what, column in (("the clock", 0), ("CPU", 1)):
        ratios = [base[column] / turn[column] for base, turn in zip(taken[DEFAULT], taken[way], strict=True)]
        middle, low, high = ratio_interval(ratios)
        told.append(f"{middle:.2f} ({low:.2f}-{high:.2f}) by {what}")
    return "default over it: " + ", ".join(told)


def steps(args: argparse.Namespace, keep: bool) -> Iterator[None]:
    """A training step each time it is asked."""
    import timm
    import torch

    from mlrec.utils.processes import keep_freed_memory

    if keep:
        keep_freed_memory()

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
