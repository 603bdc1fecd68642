"""Time of a step with each head on one backbone.

Heads are measured alternately, so that other load affects all equally.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlrec.models.backbones import Backbone
from mlrec.models.heads import create_head
from mlrec.training.devices import Precision, autocast, prepare_device
from mlrec.training.failures import memory_explained
from mlrec.utils.progress import SILENT, Progress


@dataclass(frozen=True)
class Seconds:
    """Measured seconds of forward passes and of training steps (forward and backward) of one head."""

    forward: list[float]
    training: list[float]


def time_heads(
    backbone: str,
    heads: Sequence[dict[str, Any]],
    *,
    num_labels: int,
    img_size: int,
    batch_size: int,
    steps: int,
    device: torch.device,
    precision: Precision,
    progress: Progress = SILENT,
) -> tuple[int, list[Seconds]]:
    """Time whole models that differ only in the head, on random images and with random weights.

    Args:
        backbone: timm name.
        heads: `name` and options of each head, see `create_head`.
        num_labels: Number of labels C.
        img_size: Side of the input in pixels.
        batch_size: Images per step.
        steps: Number of measurements of each head, after two for warm-up.
        device: Device of the models.
        precision: Precision of the backbone; heads run in float32, as in training.
        progress: Receiver of the bar.

    Returns:
        Input size in use, and the seconds of each head.
    """
    prepare_device(device, precision)
    torch.manual_seed(0)
    backbone_module = Backbone(backbone, img_size).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    head_modules = [
        create_head(**kind, in_features=backbone_module.num_features, num_labels=num_labels).to(device)
        for kind in heads
    ]
    images = torch.randn(batch_size, 3, img_size, img_size, device=device).to(memory_format=torch.channels_last)
    targets = torch.randint(0, 2, (batch_size, num_labels), device=device).float()
    results = [Seconds([], []) for _ in head_modules]
    with progress.task("timing", (steps + 2) * len(head_modules)) as step:
        for k in range(steps + 2):
            for head, seconds in zip(head_modules, results, strict=True):
                with memory_explained("--batch-size", device, precision, batch_size=batch_size, size=img_size):
                    measured = [
                        _seconds(backbone_module, head, images, wanted, device, precision) for wanted in (None, targets)
                    ]
                if k >= 2:
                    seconds.forward.append(measured[0])
                    seconds.training.append(measured[1])
                step()
    return backbone_module.preprocessing.size, results


def _seconds(
    backbone_module: Backbone,
    head: nn.Module,
    images: Tensor,
    targets: Tensor | None,
    device: torch.device,
    precision: Precision,
) -> float:
    """Measure one training step, or without targets one forward pass for evaluation."""
    training = targets is not None
    for module in (backbone_module, head):
        module.train(training)
        module.zero_grad(set_to_none=True)
    _wait(device)
    begun = time.perf_counter()
    with torch.set_grad_enabled(training):
        with autocast(device, precision):
            features = backbone_module(images)
        logits = head(features.to(torch.float32))
        if targets is not None:
            nn.functional.binary_cross_entropy_with_logits(logits, targets).backward()  # type: ignore[no-untyped-call]
    _wait(device)
    return time.perf_counter() - begun


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
