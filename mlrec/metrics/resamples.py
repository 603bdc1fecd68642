"""Bootstrap resamples of a test set, and all metrics on each resample.

No resample is copied or sorted. For each resample, U units are drawn with replacement from the U units of the test set.
A unit that is drawn twice counts twice. A resample is therefore stored as one count (multiplicity) per unit. AP is
computed from sums of multiplicities, and the scores are sorted only once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlrec.metrics.average_precision import average_of_steps
from mlrec.metrics.conventions import Conventions, conventions_named
from mlrec.metrics.evaluate import checked
from mlrec.metrics.precision_recall import RATES, Counts, decide, rates, tally
from mlrec.utils.errors import PredictionsError, counted

RESAMPLES = 1000
_FEW = 64  # negatives that are checked first
BLOCK = 128  # resamples computed at a time: small enough for the processor's cache


@dataclass(frozen=True)
class Units:
    """Bootstrap units: samples, or groups of samples that are drawn together.

    A group is, for example, the persons in one image.

    Attributes:
        of_sample: (N,) array with the index of the unit of each sample, counted from 0.
        number: Number of units U.
    """

    of_sample: NDArray[np.intp]
    number: int

    @classmethod
    def of(cls, samples: int, groups: Sequence[object] | NDArray[Any] | None = None) -> Units:
        """Create one unit per sample, or one unit per distinct entry in `groups`.

        Raises:
            PredictionsError: The number of entries in `groups` is not `samples`.
        """
        if groups is None:
            return cls(np.arange(samples), samples)
        if len(groups) != samples:
            raise PredictionsError(
                f"got {counted(len(groups), 'group')} for {counted(samples, 'sample')}; pass one group per sample"
            )
        names, of_sample = np.unique(np.asarray(groups), return_inverse=True)
        return cls(of_sample.reshape(-1), len(names))

    def draw(self, resamples: int, seed: int) -> Iterator[NDArray[np.int32]]:
        """Draw the resamples in blocks, as (U, block) arrays with the number of times each unit is drawn.

        `resamples` is the number of resamples in all blocks together. The same seed always produces the same resamples.
        """
        rng = np.random.default_rng(seed)
        for start in range(0, resamples, BLOCK):
            size = min(BLOCK, resamples - start)
            drawn = rng.integers(0, self.number, size=(size, self.number))
            counts = [np.bincount(row, minlength=self.number) for row in drawn]
            yield np.ascontiguousarray(np.array(counts, dtype=np.int32).T)


@dataclass(frozen=True)
class Replicates:
    """Values of all metrics on B bootstrap resamples.

    Undefined values are NaN, for example the mAP on a resample without positives.

    Attributes:
        average_precision: (B, C) array with the AP of each label.
        values: Mapping from each name in `mAP CP CR CF1 OP OR OF1` to a (B,) array. A label without a positive in a
            resample is excluded from the mAP and CR of that resample; a label without a negative is excluded from the
            mAP.
    """

    average_precision: NDArray[np.float64]
    values: dict[str, NDArray[np.float64]]


def replicates(
    scores: ArrayLike,
    targets: ArrayLike,
    units: Units,
    *,
    conventions: str | Conventions = "mlrec",
    threshold: float = 0.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Replicates:
    """Compute all metrics on each resample.

    Identical `units`, `resamples` and `seed` produce identical resamples, so the metrics of two methods are paired.

    Args:
        scores: (N, C) logits, or other scores with a matching threshold.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown).
        units: Units to draw.
        conventions: Scoring conventions.
        threshold: Minimum score of a predicted label.
        resamples: Number of resamples B.
        seed: Random seed.
    """
    rules = conventions_named(conventions)
    ranked, truth = checked(scores, targets)
    rankings = [_Ranking.of(ranked[:, c], truth[:, c], rules) for c in range(truth.shape[1])]
    flags = [_by_unit(flag, units) for flag in tally(decide(ranked, threshold), truth, rules)]
    precisions, blocks = [], []
    for weights in units.draw(resamples, seed):
        by_sample = weights[units.of_sample]
        precisions.append(np.array([ranking.average_precisions(by_sample, rules) for ranking in rankings]).T)
        counted = np.ascontiguousarray(weights.T, dtype=np.float32)  # whole numbers below 2**24 are exact
        blocks.append(rates(Counts(*((counted @ flag).astype(np.int64) for flag in flags)), rules))
    ap = np.concatenate(precisions)
    values = {name: np.concatenate([block[name] for block in blocks]) for name in RATES}
    return Replicates(ap, {"mAP": mean_of_defined(ap), **values})


def mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the mean along the last axis, ignoring NaN; NaN if all values are NaN."""
    defined = ~np.isnan(values)
    number = defined.sum(axis=-1)
    return np.asarray(np.where(defined, values, 0.0).sum(axis=-1) / np.where(number > 0, number, np.nan))


@dataclass(frozen=True)
class _Ranking:
    """Samples of one label, sorted once.

    Attributes:
        order: Samples in ascending order of score, starting at the lowest positive.
        starts: Position in `order` at which each distinct score of a positive begins.
        hits: Positives in ascending order of score.
        hit_starts: Position in `hits` at which each distinct score begins.
        misses: Negatives.
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    hits: NDArray[np.intp]
    hit_starts: NDArray[np.intp]
    misses: NDArray[np.intp]

    @classmethod
    def of(cls, scores: NDArray[np.floating[Any]], targets: NDArray[np.int8], rules: Conventions) -> _Ranking:
        ranked = np.arange(len(targets))
        if rules.unknown_in_ranking == "ignored":
            ranked = np.flatnonzero(targets >= 0)
        order = ranked[np.argsort(scores[ranked], kind="stable")]
        hits = order[targets[order] == 1]
        distinct, hit_starts = np.unique(scores[hits], return_index=True)
        starts = np.searchsorted(scores[order], distinct, side="left")
        first = len(order)
        if starts.size:
            first = starts[0]
        return cls(order[first:], starts - first, hits, hit_starts, order[targets[order] != 1])

    def average_precisions(self, weights: NDArray[np.int32], rules: Conventions) -> NDArray[np.float64]:
        """Compute the (B,) AP values from the (N, B) multiplicities."""
        if not len(self.hits) or not len(self.misses):
            return np.full(weights.shape[1], np.nan)
        at_step = np.add.reduceat(weights[self.order], self.starts, axis=0)
        hits_at_step = np.add.reduceat(weights[self.hits], self.hit_starts, axis=0)
        precisions = average_of_steps(_from_the_top(hits_at_step), _from_the_top(at_step), hits_at_step, rules)
        return np.where(self._has_negative(weights), precisions, np.nan)

    def _has_negative(self, weights: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return a (B,) bool array: True if the resample contains a negative.

        Checking a few negatives is nearly always sufficient; if not, all negatives are checked.
        """
        drawn = weights[self.misses[:_FEW]].any(axis=0)
        if not drawn.all():
            drawn = weights[self.misses].any(axis=0)
        return np.asarray(drawn)


def _from_the_top(at_step: NDArray[np.int32]) -> NDArray[np.int64]:
    """Compute, for each step, the sum over this step and all higher steps."""
    return np.asarray(at_step[::-1].cumsum(axis=0)[::-1])


def _by_unit(flags: NDArray[np.bool_], units: Units) -> NDArray[np.float32]:
    """Sum the flags over the samples of each unit, and return a (U, C) array."""
    if units.number == len(flags):
        return flags.astype(np.float32)[np.argsort(units.of_sample)]
    sums = np.zeros((units.number, flags.shape[1]), dtype=np.float32)
    np.add.at(sums, units.of_sample, flags.astype(np.float32))
    return sums
