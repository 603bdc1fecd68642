"""The ImageNet rows of Table 1: only the paper's weights on the full set stand with the printed rows."""

from __future__ import annotations

import pytest

from mlrec.reports.paper.imagenet import AccuracySweep, accuracy_row
from mlrec.reports.paper.table1 import Gain, table_1


@pytest.mark.parametrize(
    ("backbone", "weights", "why"),
    [
        ("resnet101.tv_in1k", "", None),
        ("resnet101.a1h_in1k", "", "weights a1h_in1k"),
        ("resnet101", "/home/me/x.pth", "weights of a file"),
        ("vit_base_patch16_224.orig_in21k_ft_in1k", "", None),
        ("vit_base_patch16_224.augreg_in21k_ft_in1k", "", "weights augreg_in21k_ft_in1k"),
    ],
)
def test_imagenet_rows_of_other_weights_stand_apart(backbone, weights, why):
    gain = Gain(0.01, 0.0, 0.02)
    sweep = AccuracySweep(
        backbone=backbone, weights=weights, resolution=224, data="val", samples=50_000, classes=1000,
        class_token=False, published=[0.7, 0.9], lams=[0.0, 0.1], top1=[0.7, 0.71], top5=[0.9, 0.91], fixed_lam=0.1,
        best_lam=0.1, gain=gain, fixed_gain=gain,
    )  # fmt: skip
    row = accuracy_row(sweep)
    printed = {row.group for row in table_1([]).rows if row.cells[1] == "paper"}
    assert "/home/me" not in str(row.cells)
    if why is None:
        assert row.group in printed
    else:
        assert row.group.endswith(f"not comparable with the paper ({why})")
