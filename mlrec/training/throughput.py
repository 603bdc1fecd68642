"""Arithmetic of a training step, and the largest rate of it that a GPU is sold with: together the utilisation (MFU)."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mlrec.models.classifier import Classifier

# Dense matrix products in 1e12 floating-point operations per second, from the vendor's data sheets, without sparsity:
# bf16 and fp16 (before Ampere fp16 only), TF32, float32. By a part of the name that torch reports; the first that fits.
PEAKS: dict[str, tuple[float, float, float]] = {
    "B200": (2250, 1100, 75),
    "GH200": (989, 494, 67),
    "H200 NVL": (835, 417, 60),
    "H200": (989, 494, 67),
    "H100 PCIe": (756, 378, 51),
    "H100 NVL": (835, 417, 60),
    "H100": (989, 494, 67),
    "A100": (312, 156, 19.5),
    "A40": (149.7, 74.8, 37.4),
    "A30": (165, 82, 10.3),
    "A10G": (70, 35, 35),
    "A10": (125, 62.5, 31.2),
    "L40S": (362, 183, 91.6),
    "L40": (181, 90.5, 90.5),
    "L4": (121, 60, 30.3),
    "RTX A6000": (154.8, 77.4, 38.7),
    "RTX 4090": (165.2, 82.6, 82.6),
    "RTX 3090": (71, 35.6, 35.6),
    "V100": (125, 15.7, 15.7),
    "T4": (65, 8.1, 8.1),
}


def peak_flops(gpu: str, precision: str) -> float | None:
    """Floating-point operations per second of a GPU by its data sheet; None for a GPU that `PEAKS` does not list."""
    for name, (half, tf32, full) in PEAKS.items():
        if f" {name}" in f" {gpu}":
            return 1e12 * {"bf16": half, "fp16": half, "tf32": tf32, "fp32": full}[precision]
    return None


def training_flops(model: Classifier) -> int | None:
    """Floating-point operations of convolutions and matrix products in a training step, per image.

    Counted on a copy without data, forward and backward; two operations per multiplication and addition. None for a
    model that does not run without data.
    """
    size = model.preprocessing.size
    try:
        empty = copy.deepcopy(model).to("meta").train()
        images = torch.empty(2, 3, size, size, device="meta")
        with FlopCounterMode(display=False) as counter:
            loss: torch.Tensor = nn.functional.softplus(empty.head(empty.backbone(images))).mean()
            torch.autograd.backward(loss)
    except (RuntimeError, NotImplementedError):
        return None
    return int(counter.get_total_flops()) // len(images)
