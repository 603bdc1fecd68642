"""This checkout compared with another one: seconds of a training step and of a batch in evaluation, and peak memory.

    git worktree add ../before main
    python benchmarks/against.py ../before                    # tf_efficientnet_lite0 at 224 px on a CPU
    python benchmarks/against.py ../before --device cuda      # resnet101 at 448 px on a GPU

Each checkout has a process of its own, set up as `mlrec train` does, and both take turns. A batch of random pixels is
on the device, so input is not measured. Memory is that of the process, on a GPU what PyTorch allocated there.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve()
WORK = ("training", "evaluation")
WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--backbone", help="[default: by the device]")
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", help="[default: by the device]")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        take_turns(args)
        return
    from paired import describe_machine, tell

    if not (args.other / "mlrec" / "__init__.py").is_file():
        parser.error(f"{args.other}: not a checkout of mlrec")
    sides = {name: Side(folder) for name, folder in (("other", args.other.resolve()), ("this", HERE.parents[1]))}
    ratios: dict[str, list[float]] = {work: [] for work in WORK}
    peaks: dict[str, float] = {}
    for k in range(args.rounds + WARM_UP):
        for work in WORK:
            seconds = {}
            for name in list(sides)[:: (-1) ** k]:  # each is first in every other round
                seconds[name], peaks[name] = sides[name].take_turn(work)
            if k >= WARM_UP:
                ratios[work].append(seconds["this"] / seconds["other"])
    for side in sides.values():
        side.end()
    print(describe_machine())
    for work, values in ratios.items():
        tell(f"{work}: seconds of this checkout over those of {args.other}", values, "below 1 is faster")
    print(f"peak memory: {peaks['this']:.2f} GB over {peaks['other']:.2f} GB")


class Side:
    """A process that imports mlrec from `folder`."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(HERE), *sys.argv[1:], "--side"]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def take_turn(self, work: str) -> tuple[float, float]:
        """Seconds of one step or batch, and the peak memory so far in GB."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{work}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise EOFError("a side ended; its error is above")
        seconds, peak = json.loads(line)
        return seconds, peak

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()


def take_turns(args: argparse.Namespace) -> None:
    """Do the work that is named on stdin, a line each, and print its seconds and the peak memory."""
    import torch
    from paired import SIDES, timed

    device = torch.device(args.device)
    works = prepare(args, device, *SIDES[args.device])
    for line in sys.stdin:
        seconds = timed(works[line.strip()], device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device)
        print(json.dumps([seconds, peak / 1e9]), flush=True)


def prepare(
    args: argparse.Namespace, device: object, backbone: str, size: int, precision: str
) -> dict[str, Callable[[], object]]:
    """Make what each turn runs; only functions that both checkouts have are used."""
    import numpy as np
    import torch

    from mlrec.config import Config
    from mlrec.datasets.manifest import Manifest
    from mlrec.training import setup
    from mlrec.training.dataloader import Batch
    from mlrec.training.loop import train_step
    from mlrec.training.losses import loss_function
    from mlrec.training.prediction import open_on

    precision = args.precision or precision
    config = Config(
        backbone=args.backbone or backbone, img_size=args.img_size or size, heads=8, lam=1.0, pretrained=False,
        batch_size=args.batch_size, lr_schedule="constant", lr=1e-3, normalization="half", ema=True,
    )  # fmt: skip
    labels = tuple(map(str, range(80)))
    manifest = Manifest("random", "train", Path(), labels, ("x.jpg",), np.zeros((1, 80), np.int8))
    setup.prepare_process(config, device, precision)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (args.batch_size, 3, config.img_size, config.img_size), dtype=torch.uint8)
    targets = torch.randint(0, 2, (args.batch_size, 80), dtype=torch.int8)
    images = images.contiguous(memory_format=torch.channels_last)
    batch = Batch(images, targets, torch.arange(args.batch_size)).to(device)
    state = setup.make_state(setup.build_model(config, manifest, paper=False), config, device, precision)
    network, loss = setup.make_network(state, config, device, precision), loss_function(config, manifest)
    scored = open_on(setup.build_model(config, manifest, paper=False), device, precision)
    network.module.train()
    return {
        "training": lambda: train_step(state, network, batch, loss, config),
        "evaluation": lambda: scored.run(batch.images, scored.model.head).cpu(),
    }


if __name__ == "__main__":
    main()
