"""Localization metrics for heat maps: pointing game and mass inside objects, with chance levels.

A map has h × w cells that divide the image evenly. The pointing game (Zhang et al. 2016, Top-down Neural Attention)
counts a hit if an object pixel is within `tolerance` cells of the center of the highest cell along both axes. With a
tolerance of 0.5, the cell itself must touch the object. Mass inside is the sum of the map over the objects, divided by
the sum over the image. Ignored regions (crowds and difficult objects) count neither as objects nor as background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlrec.metrics.intervals import Interval, bias_corrected
from mlrec.metrics.resamples import RESAMPLES, Units

Mask = NDArray[np.bool_]
Map = NDArray[np.floating]

TOLERANCE = 0.5  # cells


@dataclass(frozen=True)
class LabeledMap:
    """Localization measures for the map of one positive label of a sample. NaN means undefined.

    Attributes:
        sample, label: Row of the sample and column of the label in the manifest.
        area: Fraction of the image covered by the largest object of the label.
        hit: 1 if the peak points at an object, NaN if it points only at an ignored region, otherwise 0.
        hit_by_chance: Fraction of the cells that point at an object; cells that point only at an ignored region are not
            counted.
        hit_by_centre: 1 if the center of the image points at an object, otherwise 0.
        attended: Fraction of the attention (softmax of the scores) that is inside objects. The softmax temperature is T
            = 1 for all heads.
        contributed: Fraction of the positive contributions that is inside objects; NaN if there are no positive
            contributions.
        covered: Fraction of the image covered by the objects, which is the mass inside for a uniform map.
    """

    sample: int
    label: int
    area: float
    hit: float
    hit_by_chance: float
    hit_by_centre: float
    attended: float
    contributed: float
    covered: float


MEASURES = ("hit", "hit_by_chance", "hit_by_centre", "attended", "contributed", "covered")


def judge(
    sample: int,
    label: int,
    scores: Map,
    contributions: Map,
    objects: Sequence[Mask],
    ignored: Mask,
    tolerance: float = TOLERANCE,
) -> LabeledMap:
    """Compute localization measures by comparing the maps of a label with the objects of this label.

    Args:
        sample: Row of the sample in the manifest.
        label: Column of the label in the manifest.
        scores: (h, w) scores of the label's classifier at each location.
        contributions: (h, w) contribution of each location to the logit.
        objects: One or more object masks (H, W), in the orientation of the upright image.
        ignored: (H, W) mask of ignored regions.
        tolerance: Pointing tolerance in map cells.
    """
    grid = contributions.shape
    inside = np.logical_or.reduce(objects)
    outside = ignored & ~inside
    hits = reached(inside, grid, tolerance)
    counted = np.ones_like(hits)  # cells whose hit is defined
    if outside.any():  # a miss near an ignored region does not count
        counted = hits | ~reached(outside, grid, tolerance)
    peak = np.unravel_index(int(contributions.argmax()), grid)
    cover, left_out = covered(inside, grid), covered(outside, grid)
    uniform = np.ones(grid) / contributions.size
    return LabeledMap(
        sample=sample,
        label=label,
        area=max(float(mask.mean()) for mask in objects),
        hit=float(hits[peak]) if counted[peak] else float("nan"),
        hit_by_chance=float(hits[counted].mean()) if counted.any() else float("nan"),
        hit_by_centre=float(_touches(inside, 0.5, 0.5, tolerance / grid[0], tolerance / grid[1])),
        attended=_inside(softmax(scores), cover, left_out),
        contributed=_inside(np.maximum(contributions, 0), cover, left_out),
        covered=_inside(uniform, cover, left_out),
    )


def reached(mask: Mask, grid: tuple[int, ...], tolerance: float) -> Mask:
    """Return a bool array (h, w): True if the center of the cell is close to a pixel in `mask`.

    A pixel is close if it is within `tolerance` cells along both axes.
    """
    rows, columns = grid
    return np.array(
        [
            [
                _touches(mask, (i + 0.5) / rows, (j + 0.5) / columns, tolerance / rows, tolerance / columns)
                for j in range(columns)
            ]
            for i in range(rows)
        ]
    )


def covered(mask: Mask, grid: tuple[int, ...]) -> NDArray[np.float64]:
    """Compute the fraction of each cell (h, w) covered by `mask` (H, W).

    A pixel belongs to the cell that contains the center of the pixel.

    Example:
        >>> covered(np.array([[True, False], [True, True]]), (1, 2)).tolist()
        [[1.0, 0.5]]
    """
    row, column = (
        np.minimum((np.arange(side) + 0.5) * cells / side, cells - 1).astype(np.intp)
        for side, cells in zip(mask.shape, grid, strict=True)
    )
    cell = (row[:, None] * grid[1] + column).ravel()  # number of the cell of each pixel
    pixels = np.bincount(cell, minlength=grid[0] * grid[1])
    inside = np.bincount(cell, weights=mask.ravel(), minlength=grid[0] * grid[1])
    return (inside / np.maximum(pixels, 1)).reshape(grid)


def softmax(scores: Map, temperature: float = 1.0) -> NDArray[np.float64]:
    """Compute the attention (Eq. 2 of the paper) for a map of scores (h, w)."""
    raised = np.exp(temperature * (scores.astype(np.float64) - scores.max()))
    return np.asarray(raised / raised.sum())


def effective_locations(attention: Map) -> NDArray[np.float64]:
    """Compute the effective number of locations to which an attention map (..., h, w) attends.

    The number is exp(entropy), from 1 to h·w.

    Example:
        >>> float(effective_locations(np.full((2, 2), 0.25)).round(6))
        4.0
    """
    p = attention.reshape(*attention.shape[:-2], -1).astype(np.float64)
    entropy = -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)
    return np.asarray(np.exp(entropy))


def mean_intervals(values: NDArray[np.float64], groups: Sequence[int]) -> list[Interval | None]:
    """Compute the mean of each column with its confidence interval.

    The entry of a column is None if all values in the column are NaN.

    Args:
        values: (P, K) array with K values for each of P image-label pairs; NaN is ignored.
        groups: Group (image) of each of the P pairs; pairs in the same group are drawn together.
    """
    units = Units.of(len(values), list(groups))
    known = ~np.isnan(values)
    sums = np.stack([_by_unit(np.where(known, values, 0.0), units), _by_unit(known.astype(np.float64), units)])
    blocks = [sums.transpose(0, 2, 1) @ weights for weights in units.draw(RESAMPLES, seed=0)]
    total, count = np.concatenate(blocks, axis=2)
    intervals: list[Interval | None] = []
    for k, (whole, number) in enumerate(sums.sum(axis=1).T):
        if not number:
            intervals.append(None)
            continue
        drawn = total[k][count[k] > 0] / count[k][count[k] > 0]  # without resamples that hold no known value
        mean = float(whole / number)
        intervals.append(Interval(mean, *bias_corrected(mean, drawn), units.number, len(drawn)))
    return intervals


def _touches(mask: Mask, down: float, across: float, height: float, width: float) -> bool:
    """Return whether any pixel of `mask` is True in the window around a point.

    Positions and lengths are fractions of the image height or width.
    """
    (top, bottom), (left, right) = (
        _pixels(centre, reach, side)
        for centre, reach, side in zip((down, across), (height, width), mask.shape, strict=True)
    )
    return bool(mask[top:bottom, left:right].any())


def _pixels(centre: float, reach: float, side: int) -> tuple[int, int]:
    """Return the start and stop of the pixel range (at least one pixel) within `reach` of `centre`."""
    first = int(np.ceil((centre - reach) * side - 0.5))
    last = int(np.floor((centre + reach) * side - 0.5))
    if last < first:
        first = last = int(centre * side)
    return max(first, 0), min(last, side - 1) + 1


def _inside(weights: Map, cover: Map, left_out: Map) -> float:
    total = float((weights * (1 - left_out)).sum())
    return float((weights * cover).sum()) / total if total > 0 else float("nan")


def _by_unit(values: NDArray[np.float64], units: Units) -> NDArray[np.float64]:
    sums = np.zeros((units.number, values.shape[1]))
    np.add.at(sums, units.of_sample, values)
    return sums
