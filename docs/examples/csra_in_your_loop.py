"""Use the CSRA head in your own PyTorch loop, with any timm model as backbone."""

from __future__ import annotations

import timm
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import mlrec

LABELS = ["red", "green", "blue"]
SIDE, PATCH = 64, 16  # pixels


def draw_batch(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (B, 3, SIDE, SIDE) of noise with one colored square for each positive label, and their targets (B, 3)."""
    images = 0.3 * torch.rand(size, 3, SIDE, SIDE, generator=generator)
    targets = (torch.rand(size, len(LABELS), generator=generator) < 0.4).float()
    for image, row in zip(images, targets, strict=True):
        for channel in row.nonzero().flatten():
            x, y = torch.randint(0, SIDE - PATCH, (2,), generator=generator)
            image[channel, y : y + PATCH, x : x + PATCH] = 1.0
    return images, targets


def main() -> None:
    """Train backbone and head, then score new images and show where the head attends."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)

    # A timm model without classifier and pooling: images → features (B, d, h, w).
    backbone = timm.create_model("test_resnet", pretrained=False, num_classes=0, global_pool="")
    head = mlrec.CSRA(backbone.num_features, num_labels=len(LABELS), heads=1, lam=0.5)

    # As in the paper, the head has a higher learning rate than the backbone.
    groups = [{"params": backbone.parameters(), "lr": 0.003}, {"params": head.parameters(), "lr": 0.03}]
    optimizer = torch.optim.AdamW(groups)
    for step in range(40):
        images, targets = draw_batch(16, generator)
        loss = binary_cross_entropy_with_logits(head(backbone(images)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"step {step + 1}: loss {loss.item():.3f}")

    backbone.eval()
    images, targets = draw_batch(100, generator)
    with torch.no_grad():
        features = backbone(images)
        metrics = mlrec.evaluate(head(features), targets, labels=LABELS, scores="logits")
        attention = head.attention(features)
    print(f"mAP {metrics.mAP:.1%}, CF1 {metrics.CF1:.1%}")
    print(f"attention (B, H, C, h, w): {tuple(attention.shape)}, sums to {attention[0, 0, 0].sum():.3f}")


if __name__ == "__main__":
    main()
