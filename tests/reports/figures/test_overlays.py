"""Maps lie where they belong, colours mean one thing, sheets hold what fits."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mlrec.reports.figures import overlays
from mlrec.reports.figures.overlays import Panel, Range, Strip, draw_strips, outlined, overlaid, shrunk

GREY = np.full((60, 90, 3), 128, np.uint8)


def test_a_map_is_stretched_to_the_shape_of_a_wide_image() -> None:
    values = np.zeros((3, 3))
    values[0, 2] = 1.0  # the upper right ninth: rows 0-19, columns 60-89
    drawn = overlaid(GREY, values, Range(0.0, 1.0, ""))
    assert drawn.shape == GREY.shape
    yellow = (drawn[..., 0].astype(int) + drawn[..., 1]) - 2 * drawn[..., 2].astype(int)
    y, x = np.unravel_index(int(yellow.argmax()), yellow.shape)
    assert y < 20
    assert x >= 60
    from matplotlib import colormaps

    faint = overlays.OPACITY[0]
    expected = (1 - faint) * 128 + faint * 255 * np.array(colormaps["viridis"](0.0)[:3])
    np.testing.assert_allclose(drawn[50, 10], expected, atol=1)


def test_only_the_box_of_an_image_is_coloured() -> None:
    box = (30, -20, 60, 30)  # reaches out of the picture
    values = np.zeros((5, 1))
    values[-1] = 1.0  # the lowest fifth of the box: rows 20-29
    drawn = overlaid(GREY, values, Range(0.0, 1.0, ""), box)
    changed = (drawn != 128).any(axis=2)
    assert changed[:30, 30:60].all()
    assert changed.sum() == 30 * 30
    assert drawn[27, 45, 1] > drawn[2, 45, 1]
    assert (outlined(GREY, (30, 10, 60, 30)) != GREY).any(axis=2)[[10, 29, 20], [40, 40, 30]].all()


def test_all_maps_share_one_colour_scale() -> None:
    maps = [np.array([[[-1.0, 3.0]]]), np.array([[[0.5, 1.0]]])]
    colours = Range.over(maps, "c")
    assert colours.low == -1.0
    assert 1.0 < colours.high <= 3.0
    assert Range.over([np.zeros((1, 2, 2))], "c").high > 0
    low = overlaid(GREY, np.full((1, 1), -1.0), colours)
    same = overlaid(GREY, np.full((1, 1), -1.0), colours, (0, 0, 90, 60))
    assert np.array_equal(low, same)


def test_a_sheet_is_an_image_with_the_strips_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    strips = [Strip(f"name {k} \x1b[31m ☃", (Panel(GREY, ("cat", "p = 0.50")), Panel(GREY, ()))) for k in range(9)]
    content, fitted = draw_strips(strips, Range(-1, 1, "contribution"))
    assert fitted == 9
    whole = Image.open(io.BytesIO(content))
    monkeypatch.setattr(overlays, "MOST_PIXELS", whole.height // 2)
    content, fitted = draw_strips(strips, Range(-1, 1, "contribution"))
    assert 0 < fitted < 9
    assert Image.open(io.BytesIO(content)).height <= whole.height // 2
    assert shrunk(GREY, 30).shape == (20, 30, 3)
