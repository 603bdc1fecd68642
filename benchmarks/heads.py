"""CSRA as one stacked projection against one convolution per head: seconds of a training step, side by side.

    python benchmarks/heads.py [--batch 16] [--channels 2048] [--grid 14] [--labels 80] [--steps 20] [--device cpu]

The per-head form is written from the paper's description: H modules, each a 1×1 convolution whose output is divided
by the length of its classifiers, each with its own softmax. Both forms hold the same weights and see the same
features; steps alternate, so that whatever else the machine does meets both. Printed: the median of each, and the
median of the paired ratios with its 95% interval.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from paired import describe_machine, ratio_interval
from plain import PlainHeads
from torch import Tensor, nn

from mlrec.config import TEMPERATURES
from mlrec.models.csra import CSRA


def training_step(head: nn.Module, features: Tensor, targets: Tensor) -> float:
    """Seconds of one forward and backward pass, gradients of weights and features."""
    features = features.detach().requires_grad_()
    head.zero_grad()
    _wait(features)
    begun = time.perf_counter()
    nn.functional.binary_cross_entropy_with_logits(head(features), targets).backward()
    _wait(features)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 16), ("channels", 2048), ("grid", 14), ("labels", 80), ("steps", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    given = parser.parse_args()
    torch.manual_seed(0)
    features = torch.randn(given.batch, given.channels, given.grid, given.grid, device=given.device)
    if given.channels_last:
        features = features.to(memory_format=torch.channels_last)
    targets = torch.randint(0, 2, (given.batch, given.labels), device=given.device).float()
    print(f"{describe_machine()}, {torch.get_num_threads()} threads; {vars(given)}")
    print(f"{'H':>2} {'per head ms':>12} {'stacked ms':>11} {'ratio':>6} {'95%':>13} {'largest difference':>19}")
    for heads in TEMPERATURES:
        stacked = CSRA(given.channels, given.labels, heads, lam=0.5).to(given.device)
        separate = PlainHeads(stacked).to(given.device)
        difference = (stacked(features) - separate(features)).abs().max().item()
        pairs = [
            (training_step(separate, features, targets), training_step(stacked, features, targets))
            for _ in range(given.steps)
        ]
        pairs = pairs[len(pairs) // 5 :]  # the first ones warm up
        slow, fast = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
        ratio, low, high = ratio_interval([a / b for a, b in pairs])
        interval = f"{low:.2f} to {high:.2f}"
        print(f"{heads:>2} {slow:>12.2f} {fast:>11.2f} {ratio:>6.2f} {interval:>13} {difference:>19.1e}", flush=True)


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
