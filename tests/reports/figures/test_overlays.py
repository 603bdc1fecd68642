"""Maps are in place, colors have one meaning, an empty map is the photograph, and sheets hold what they should."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from mlrec.reports.figures.color_map import ZERO, color_map
from mlrec.reports.figures.overlays import (
    BAR,
    OPACITY,
    ColorScale,
    Panel,
    Strip,
    bar,
    draw_sheet,
    draw_strip,
    jpeg,
    outlined,
    overlaid,
    resized,
    ticks,
)
from mlrec.reports.figures.text import cut, font

GREY = np.full((60, 90, 3), 128, np.uint8)
PHOTO = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
UNIT = ColorScale(1.0, -1.0)


def lab_of(colors: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB colors, by the matrix of IEC 61966-2-1 in this direction."""
    share = colors / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    ratio = xyz / [0.9505, 1.0, 1.0890]
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def test_the_color_map_is_perceptually_uniform_and_symmetric_about_a_neutral_middle() -> None:
    lab = lab_of(color_map().astype(float))
    lightness, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    assert chroma[ZERO] < 1, "zero is grey"
    np.testing.assert_allclose(lightness, lightness[::-1], atol=0.6)
    np.testing.assert_allclose(chroma, chroma[::-1], atol=1.0)
    for half in (lab[ZERO:], lab[ZERO::-1]):
        quarters = half[:: len(half) // 4]  # steps of single entries are below the resolution of 8 bits
        steps = np.linalg.norm(np.diff(quarters, axis=0), axis=1)
        assert steps.max() / steps.min() < 1.1, "equal steps of the value are equal steps of the color"
        straight = np.linspace(half[0, 0], half[-1, 0], len(half))
        np.testing.assert_allclose(half[:, 0], straight, atol=0.5)
        assert straight[0] - straight[-1] > 40
    assert lab[-1, 1] > 40, "red is positive"
    assert lab[0, 2] < -40, "blue is negative"


def test_an_empty_map_is_the_plain_photograph() -> None:
    assert np.array_equal(overlaid(PHOTO, np.zeros((7, 7)), UNIT), PHOTO)
    assert np.array_equal(overlaid(PHOTO, np.zeros((7, 7)), ColorScale.over([np.zeros((1, 7, 7))])), PHOTO)


@pytest.mark.parametrize(("value", "share"), [(1.0, 1.0), (-1.0, 1.0), (0.4, 0.4), (-0.4, 0.4), (9.0, 1.0)])
def test_opacity_is_proportional_to_the_magnitude(value: float, share: float) -> None:
    drawn = overlaid(PHOTO, np.full((1, 1), value), UNIT)[5:-5, 5:-5]
    color = color_map()[round(ZERO * (1 + np.clip(value, -1, 1)))].astype(float)
    before = PHOTO[5:-5, 5:-5].astype(float)
    np.testing.assert_allclose(drawn, before + OPACITY * share * (color - before), atol=2.5)


def test_a_map_is_stretched_to_the_shape_of_a_wide_image() -> None:
    values = np.zeros((3, 3))
    values[0, 2] = 1.0  # the upper right ninth: rows 0-19, columns 60-89
    drawn = overlaid(GREY, values, UNIT)
    assert drawn.shape == GREY.shape
    redness = drawn[..., 0].astype(int) - drawn[..., 1]
    y, x = np.unravel_index(int(redness.argmax()), redness.shape)
    assert y < 20
    assert x >= 60
    assert np.array_equal(drawn[50, 10], GREY[50, 10])


def test_a_line_encloses_half_of_the_limit() -> None:
    values = np.zeros((1, 9))
    values[0, 4] = 1.0
    drawn = overlaid(np.zeros((20, 900, 3), np.uint8), values, UNIT)
    white = np.flatnonzero((drawn[10] == 255).all(axis=1))
    smooth = np.interp(np.arange(900), 50 + 100 * np.arange(9), values[0])
    inside = np.flatnonzero(smooth >= 0.5)
    assert abs(white.min() - inside.min()) <= 1
    assert abs(white.max() - inside.max()) <= 1
    assert not (overlaid(PHOTO * 0, 0.4 * values, UNIT) == 255).all(axis=2).any()


def test_only_the_box_of_an_image_is_colored() -> None:
    box = (30, -20, 60, 30)  # exceeds the image
    values = np.full((5, 1), 0.1)
    values[-1] = 1.0  # the lowest fifth of the box: rows 20-29
    drawn = overlaid(GREY, values, UNIT, box)
    changed = (drawn != 128).any(axis=2)
    assert changed[:30, 30:60].all()
    assert changed.sum() == 30 * 30
    redness = drawn[..., 0].astype(int) - drawn[..., 1]
    assert redness[27, 45] > redness[2, 45]
    assert (outlined(GREY, (30, 10, 60, 30)) != GREY).any(axis=2)[[10, 29, 20], [40, 40, 30]].all()


def test_a_scale_is_symmetric_and_ends_at_the_largest_magnitude_or_at_a_quantile_of_the_peaks() -> None:
    signed = [np.array([[[-4.0, 3.0]]]), np.array([[[0.5, 1.0]]])]
    assert ColorScale.over(signed) == ColorScale(4.0, -4.0)
    assert ColorScale.over([np.array([[[0.0, 0.3]]])]) == ColorScale(0.3, 0.0), "attention has no negative values"
    peaks = [np.array([[[float(k)]]]) for k in range(1, 12)]
    shared = ColorScale.over(peaks, 0.9)
    assert shared == ColorScale(10.0, 0.0, exceeded=True)
    assert ColorScale.over([np.zeros((1, 2, 2))]).limit > 0
    assert [text for _, text in ticks(shared)] == ["≥ 10", "0"]
    assert [text for _, text in ticks(ColorScale(0.25, -0.25))] == ["0.25", "0", "−0.25"]


def test_a_color_bar_shows_the_colors_of_a_white_photograph() -> None:
    colors = bar(UNIT, 101)
    assert colors.shape == (101, BAR, 3)
    white = np.full((30, 30, 3), 255, np.uint8)
    for row, value in ((0, 1.0), (50, 0.0), (100, -1.0), (70, -0.4)):
        np.testing.assert_allclose(colors[row, 0], overlaid(white, np.full((1, 1), value), UNIT)[15, 15], atol=2)


def test_strips_and_sheets_hold_everything() -> None:
    panels = (Panel(GREY, ("cat",)), Panel(GREY, ("a label that is much too long for the panel", "p = 0.50")))
    strip = draw_strip(Strip("name \x1b[31m ☃", panels, UNIT))
    assert strip.shape[1] > 2 * 90
    places = [(strip[:, k : k + 90] == 128).all(axis=2).any() for k in (0, 100)]
    assert places == [True, True]
    sheet = draw_sheet([strip] * 9, "a note")
    assert sheet.shape[1] >= 2 * strip.shape[1], "narrow strips are side by side"
    grey = (sheet == 128).all(axis=2).sum()
    assert grey >= 9 * 2 * 90 * 60
    with Image.open(io.BytesIO(jpeg(sheet))) as picture:
        assert (picture.height, picture.width) == sheet.shape[:2]
    wide = draw_strip(Strip("x", (Panel(np.zeros((10, 1200, 3), np.uint8), ()),)))
    assert draw_sheet([wide, wide], "").shape[1] == wide.shape[1], "wide ones are below each other"


def test_images_are_reduced_and_enlarged() -> None:
    assert resized(GREY, 30).shape == (20, 30, 3)
    assert resized(GREY, 360).shape == (240, 360, 3)


@pytest.mark.parametrize("text", ["train2014/COCO_train2014_000000000009.jpg", "λ of café, кошка", "x"])
def test_text_is_cut_at_its_beginning(text: str) -> None:
    shown = cut(text, 100, 13)
    assert font(13).getlength(shown) <= 100
    assert text.endswith(shown.removeprefix("…"))
    missing = bytes(font(13).getmask("\uffff"))
    assert all(bytes(font(13).getmask(letter)) != missing for letter in "λéк")
