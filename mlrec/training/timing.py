"""Step times and FLOPs of different heads on the same backbone.

Each round measures one forward pass and one training step with every head, so that other load on the machine affects
all heads equally.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mlrec.models.backbones import Backbone
from mlrec.training.devices import Precision, autocast, memory_explained, prepare_device
from mlrec.utils.progress import SILENT, Progress


@dataclass(frozen=True)
class Seconds:
    """Times in seconds of the forward passes and training steps of a model with one head."""

    forward: list[float]
    training: list[float]


def time_heads(
    backbone: Backbone,
    heads: Sequence[nn.Module],
    *,
    num_labels: int,
    batch_size: int,
    steps: int,
    device: torch.device,
    precision: Precision,
    progress: Progress = SILENT,
) -> list[Seconds]:
    """Measure the time of complete models that differ only in the head, on random images.

    Args:
        backbone: Backbone that all models share; its current input size is used.
        heads: Heads to compare; the backbone and heads are moved to the device.
        num_labels: Number of labels C.
        batch_size: Batch size.
        steps: Number of measurements per head, after two warm-up steps.
        device: Device of the models.
        precision: Precision of the backbone; heads run in float32, as in training.
        progress: Progress display.

    Returns:
        Measured times for each head.
    """
    prepare_device(device, precision)
    torch.manual_seed(0)
    size = backbone.preprocessing.size
    backbone = backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    head_modules = [head.to(device) for head in heads]
    images = torch.randn(batch_size, 3, size, size, device=device).to(memory_format=torch.channels_last)
    targets = torch.randint(0, 2, (batch_size, num_labels), device=device).float()
    results = [Seconds([], []) for _ in head_modules]
    with progress.task("timing", (steps + 2) * len(head_modules)) as step:
        for k in range(steps + 2):
            for head, seconds in zip(head_modules, results, strict=True):
                with memory_explained("--batch-size", device, precision, batch_size=batch_size, size=size):
                    measured = [
                        _seconds(backbone, head, images, wanted, device, precision) for wanted in (None, targets)
                    ]
                if k >= 2:
                    seconds.forward.append(measured[0])
                    seconds.training.append(measured[1])
                step()
    return results


def head_flops(backbone: Backbone, heads: Sequence[nn.Module]) -> tuple[int, list[int]]:
    """Count the FLOPs of a backbone and of each head for one image.

    Args:
        backbone: Backbone of all models; its current input size is used.
        heads: Heads for the features of the backbone, on the same device.

    Returns:
        FLOPs of the backbone and of each head; see `forward_flops`.
    """
    size, device = backbone.preprocessing.size, next(backbone.parameters()).device
    of_backbone = forward_flops(backbone.eval(), torch.zeros(1, 3, size, size, device=device))
    features = torch.zeros(1, backbone.num_features, *backbone.grid, device=device)
    return of_backbone, [forward_flops(head.eval(), features) for head in heads]


def forward_flops(module: nn.Module, inputs: Tensor) -> int:
    """Count the FLOPs of convolutions and matrix products in a forward pass.

    A multiplication and an addition count as two FLOPs. Softmax, norms and activations are not counted.

    Example:
        >>> forward_flops(nn.Linear(10, 3), torch.zeros(2, 10))
        120
    """
    # On a CPU and without gradients, PyTorch replaces attention by fused operations, which are not counted.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(inputs.detach().requires_grad_())
    return int(counter.get_total_flops())


def _seconds(
    backbone_module: Backbone,
    head: nn.Module,
    images: Tensor,
    targets: Tensor | None,
    device: torch.device,
    precision: Precision,
) -> float:
    """Measure the time of one training step, or of one evaluation forward pass if there are no targets."""
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
