"""Checkpoints released with the paper, and their λ values, which are not stored in the files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlrec.utils.errors import ModelError


@dataclass(frozen=True)
class Release:
    """Published checkpoint: training settings, and the mAP in percent that the authors reported."""

    dataset: str
    backbone: str
    family: str
    heads: int
    lam: float
    mAP: float
    img_size: int


RELEASES = (
    Release("voc2007", "ResNet-101", "resnet", 1, 0.1, 94.7, 448),
    Release("voc2007", "ResNet-cut", "resnet", 1, 0.1, 95.2, 448),
    Release("coco2014", "ResNet-101", "resnet", 4, 0.5, 83.3, 448),
    Release("coco2014", "ResNet-101", "resnet", 6, 0.5, 83.5, 448),
    Release("coco2014", "ResNet-cut", "resnet", 6, 0.4, 85.6, 448),
    Release("coco2014", "ViT-L16", "vit", 8, 1.0, 86.5, 448),
    Release("wider", "ViT-B16", "vit", 1, 0.3, 89.0, 224),
    Release("wider", "ViT-L16", "vit", 1, 0.3, 90.1, 224),
)


def published_lam(dataset: str | None, family: str, heads: int) -> float:
    """Return the published λ for this dataset, backbone family ("resnet" or "vit") and number of heads.

    Raises:
        ModelError: There is no published λ, or there are multiple values; the message lists all values.
    """
    fitting = [
        release for release in RELEASES if (release.dataset, release.family, release.heads) == (dataset, family, heads)
    ]
    values = {release.lam for release in fitting}
    if len(values) == 1:
        return values.pop()
    what = f"a {family} with H = {heads} on {dataset or 'an unknown dataset'}"
    if values:
        known = ", ".join(f"--lam {release.lam:g} for {release.backbone}" for release in fitting)
        raise ModelError(f"the file does not contain λ, and the paper has several values for {what}; use {known}")
    raise ModelError(f"the file does not contain λ, and the paper has no value for {what}; set λ with --lam X")


def fixed_lam(backbone: str, head: str) -> float:
    """Return the fixed λ that the paper uses in Table 1 with the method of Figure 1.

    λ is 0.02 for ResNets and 0.2 for all other models. ML-GCN is an exception: its backbone is a ResNet, but λ is 0.2.

    Args:
        backbone: timm name, with or without a tag.
        head: Name of the head, a key in `HEADS`.
    """
    if re.match(r"resnet\d+", backbone) and head != "gcn":
        return 0.02
    return 0.2
