"""Bootstrap confidence intervals for metrics and for differences between metrics.

Intervals can also be computed for the gain of the best candidate over a baseline.

The units of a test set (samples or groups of samples) are drawn with replacement; see `resamples`. If the samples are
persons, the groups should be the images that contain them. Two predictions are always compared on the same resamples.
To make a claim about a method rather than one trained model, pass the predictions from multiple runs, so that seeds are
also resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlrec.metrics.conventions import Conventions
from mlrec.metrics.evaluate import evaluate_scores
from mlrec.metrics.intervals import Interval, bias_corrected, percentiles
from mlrec.metrics.precision_recall import RATES
from mlrec.metrics.resamples import BLOCK, RESAMPLES, Replicates, Units, mean_of_defined, replicates
from mlrec.metrics.summary import Metrics

METRICS = ("mAP", *RATES)
Runs = ArrayLike | Sequence[ArrayLike]


@dataclass(frozen=True)
class Bootstrap:
    """Test set and settings for bootstrap confidence intervals.

    Attributes:
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown).
        groups: Group of each sample, such as its image. Samples in the same group are drawn together. By default, each
            sample is its own group.
        conventions: Scoring conventions.
        threshold: Minimum score of a predicted label. The default is 0, for logits; use 0.5 for probabilities.
        resamples: Number of resamples.
        seed: Random seed.
    """

    targets: ArrayLike
    groups: Sequence[object] | NDArray[Any] | None = None
    conventions: str | Conventions = "mlrec"
    threshold: float = 0.0
    resamples: int = RESAMPLES
    seed: int = 0

    @property
    def units(self) -> Units:
        """Units (samples or groups of samples) that are resampled."""
        return Units.of(len(np.asarray(self.targets)), self.groups)

    def score(self, scores: ArrayLike) -> Metrics:
        """Compute the metrics on the whole test set."""
        return evaluate_scores(scores, self.targets, threshold=self.threshold, conventions=self.conventions)

    def resample(self, scores: ArrayLike) -> Replicates:
        """Compute the metrics on each resample."""
        return replicates(
            scores,
            self.targets,
            self.units,
            conventions=self.conventions,
            threshold=self.threshold,
            resamples=self.resamples,
            seed=self.seed,
        )

    def estimate(self, runs: Runs, method: int = 0) -> Estimate:
        """Compute the mean metrics of a method over its runs, on the test set and on each resample.

        The runs of two methods with different `method` numbers are drawn independently.
        """
        each = runs_of(runs)
        rng = np.random.default_rng([self.seed, method])
        # (B, runs) weights: how often each seed is drawn in a resample, as a share.
        drawn = rng.multinomial(len(each), [1 / len(each)] * len(each), size=self.resamples) / len(each)
        even = np.full((1, len(each)), 1 / len(each))
        whole = _over_runs([_as_replicates(self.score(scores)) for scores in each], even)
        resampled = _over_runs([self.resample(scores) for scores in each], drawn)
        return Estimate(whole, resampled, self.units.number, (len(each),))


@dataclass(frozen=True)
class Estimate:
    """Metrics on the whole test set and on each resample.

    Values are the metrics of one method, or the differences between two methods.
    """

    whole: Replicates
    resampled: Replicates
    units: int
    seeds: tuple[int, ...]

    def minus(self, other: Estimate) -> Estimate:
        """Subtract the values of another estimate, separately for each resample."""
        return Estimate(
            _minus(self.whole, other.whole),
            _minus(self.resampled, other.resampled),
            self.units,
            self.seeds + other.seeds,
        )

    def metric(self, name: str) -> Interval | None:
        """Return the confidence interval for a metric in `METRICS`, or None if the metric is undefined."""
        return self._between(self.whole.values[name], self.resampled.values[name])

    def label(self, column: int) -> Interval | None:
        """Return the confidence interval for the AP of a label.

        The result is None for a label without positives or negatives.
        """
        return self._between(self.whole.average_precision[:, column], self.resampled.average_precision[:, column])

    def labels_mean(self, columns: Sequence[int]) -> Interval | None:
        """Return the confidence interval for the mean AP over a set of labels.

        The result is None if no AP is defined.
        """
        whole, drawn = (each.average_precision[:, list(columns)] for each in (self.whole, self.resampled))
        return self._between(mean_of_defined(whole), mean_of_defined(drawn))

    def _between(self, whole: NDArray[np.float64], drawn: NDArray[np.float64]) -> Interval | None:
        value, defined = float(whole[0]), drawn[~np.isnan(drawn)]
        if np.isnan(value) or not defined.size:
            return None
        low, high = bias_corrected(value, defined)
        if len(self.seeds) == 1:  # a metric, not a difference: widening for few seeds may leave [0, 1]
            low, high = max(0.0, low), min(1.0, high)
        return Interval(value, low, high, self.units, len(drawn), self.seeds)


def metric_intervals(scores: Runs, targets: ArrayLike, **options: Any) -> dict[str, Interval | None]:
    """Compute a confidence interval for each metric in `METRICS`, or None if the metric is undefined.

    Args:
        scores: (N, C) logits of one run, or a list of such arrays from runs with different seeds. With multiple runs,
            both seeds and units are resampled, and the interval describes the method.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown).
        **options: Other fields of `Bootstrap`.

    Example:
        >>> logits, targets = np.array([[2.0], [1.0], [-1.0], [-2.0]]), np.array([[1], [0], [1], [0]])
        >>> interval = metric_intervals(logits, targets, resamples=200)["OF1"]
        >>> interval.value, interval.resamples
        (0.5, 200)
    """
    estimate = Bootstrap(targets, **options).estimate(scores)
    return {name: estimate.metric(name) for name in METRICS}


def mAP_interval(scores: Runs, targets: ArrayLike, **options: Any) -> Interval | None:  # noqa: N802 - the metric's name
    """Compute the confidence interval for mAP; see `metric_intervals`."""
    return metric_intervals(scores, targets, **options)["mAP"]


def paired_differences(ours: Runs, theirs: Runs, targets: ArrayLike, **options: Any) -> dict[str, Interval | None]:
    """Compute the confidence interval for `ours` minus `theirs`, for each metric in `METRICS`.

    Both methods are evaluated on the same resamples. For the arguments, see `metric_intervals`. The methods may have
    different numbers of runs; runs are drawn independently for each method.
    """
    difference = difference_of(ours, theirs, Bootstrap(targets, **options))
    return {name: difference.metric(name) for name in METRICS}


def paired_difference(ours: Runs, theirs: Runs, targets: ArrayLike, **options: Any) -> Interval | None:
    """Compute the confidence interval for mAP(ours) - mAP(theirs); see `paired_differences`."""
    return paired_differences(ours, theirs, targets, **options)["mAP"]


def paired_seeds(
    ours: Sequence[ArrayLike], theirs: Sequence[ArrayLike], targets: ArrayLike, **options: Any
) -> Interval | None:
    """Compute `paired_difference` for methods whose runs are paired by seed.

    The same runs are drawn for both methods, so both must have the same number of runs, and run k of both methods must
    come from the same model.
    """
    bootstrap = Bootstrap(targets, **options)
    return bootstrap.estimate(ours).minus(bootstrap.estimate(theirs)).metric("mAP")


def difference_of(ours: Runs, theirs: Runs, bootstrap: Bootstrap) -> Estimate:
    """Estimate the difference `ours` minus `theirs` for all metrics and labels."""
    return bootstrap.estimate(ours, 0).minus(bootstrap.estimate(theirs, 1))


@dataclass(frozen=True)
class Best:
    """Best candidate, chosen on the same test set on which it is evaluated.

    Attributes:
        chosen: Index of the best candidate.
        gain: mAP of the best candidate minus mAP of the baseline. For the interval, the best candidate is chosen again
            in each resample.
        shares: For each candidate, the fraction of resamples in which it has the highest mAP.
    """

    chosen: int
    gain: Interval
    shares: tuple[float, ...]


def best_of(candidates: Sequence[ArrayLike], baseline: int, targets: ArrayLike, **options: Any) -> Best:
    """Compare the candidate that has the highest mAP with the candidate at position `baseline`.

    If multiple candidates have the highest mAP, the first one is used. The baseline is itself a candidate, so the gain
    is never negative, and a positive gain is not evidence of an improvement.
    """
    bootstrap = Bootstrap(targets, **options)
    whole = np.array([bootstrap.score(scores).mAP for scores in candidates], dtype=np.float64)
    likely = _contenders(candidates, baseline, bootstrap)
    drawn = np.full((len(candidates), bootstrap.resamples), -np.inf)  # an unlikely candidate never wins
    drawn[likely] = [bootstrap.resample(candidates[k]).values["mAP"] for k in likely]
    drawn = drawn[:, ~np.isnan(drawn).any(axis=0)]
    low, high = percentiles(drawn.max(axis=0) - drawn[baseline])  # the best of each resample
    gain = float(whole.max() - whole[baseline])
    wins = np.bincount(drawn.argmax(axis=0), minlength=len(candidates))
    return Best(
        chosen=int(whole.argmax()),
        gain=Interval(gain, low, high, bootstrap.units.number, bootstrap.resamples),
        shares=tuple((wins / wins.sum()).tolist()),
    )


def _contenders(candidates: Sequence[ArrayLike], baseline: int, bootstrap: Bootstrap) -> list[int]:
    """Return the positions of the baseline and of the candidates that can be the best in a resample.

    The first resamples are used to estimate the mean distance of each candidate from the best one. A candidate that is
    worse by more than five standard deviations of this distance is dropped; such a candidate would win in about one of
    three million resamples.
    """
    if len(candidates) <= 2 or bootstrap.resamples <= BLOCK:
        return list(range(len(candidates)))
    short = replace(bootstrap, resamples=BLOCK)
    drawn = np.array([short.resample(scores).values["mAP"] for scores in candidates])
    drawn = drawn[:, ~np.isnan(drawn).any(axis=0)]
    if drawn.shape[1] < BLOCK // 2:
        return list(range(len(candidates)))
    behind = drawn[int(drawn.mean(axis=1).argmax())] - drawn
    near = behind.mean(axis=1) <= 5 * behind.std(axis=1) + 1e-9
    near[baseline] = True
    return np.flatnonzero(near).tolist()


def runs_of(runs: Runs) -> list[ArrayLike]:
    """Return a list of (N, C) arrays, one per run; a single array becomes a list with one item."""
    several = isinstance(runs, (list, tuple)) and np.ndim(runs[0]) == 2
    return list(runs) if several else [runs]  # type: ignore[arg-type, list-item]


def _minus(ours: Replicates, theirs: Replicates) -> Replicates:
    values = {name: ours.values[name] - theirs.values[name] for name in METRICS}
    return Replicates(ours.average_precision - theirs.average_precision, values)


def _as_replicates(metrics: Metrics) -> Replicates:
    ap = np.array([list(metrics.average_precision.values())], dtype=np.float64)
    return Replicates(ap, {name: np.array([getattr(metrics, name)], dtype=np.float64) for name in METRICS})


def _over_runs(runs: Sequence[Replicates], shares: NDArray[np.float64]) -> Replicates:
    """Compute the mean over runs, weighted by the fraction of each run in each resample.

    `shares` is a (B, runs) array.
    """
    values = {name: _mean([run.values[name] for run in runs], shares) for name in METRICS}
    return Replicates(_mean([run.average_precision for run in runs], shares), values)


def _mean(values: Sequence[NDArray[np.float64]], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over runs, weighted by `shares`, with a corrected variance.

    Drawing from only n runs reduces the variance by the factor (n - 1) / n, so deviations from the mean are scaled up.
    """
    number = len(values)
    if number == 1:
        return values[0]
    centre = np.mean(values, axis=0)
    parts = [
        share.reshape(-1, *[1] * (value.ndim - 1)) * (value - centre)
        for share, value in zip(shares.T, values, strict=True)
    ]
    return np.asarray(centre + np.sqrt(number / (number - 1)) * np.sum(parts, axis=0))
