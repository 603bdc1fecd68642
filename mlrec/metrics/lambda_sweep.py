"""mAP at any λ, computed from the mean and maximum location score of each sample and label (Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlrec.metrics.bootstrap import best_of, paired_difference
from mlrec.metrics.evaluate import evaluate
from mlrec.metrics.intervals import Interval
from mlrec.utils.errors import PredictionsError


class LambdaSetting(NamedTuple):
    """Value of λ, and position of a temperature in the list of stored temperatures."""

    lam: float
    temperature: int = 0


@dataclass(frozen=True, eq=False)
class Parts:
    """Logits of a split, separated into an average-pooling part and a residual-attention part.

    Attributes:
        average: (N, C) array of logits at λ = 0.
        added: One (N, C) array per temperature: the term that is added to the logits at λ = 1. For T = ∞, this is the
            maximum over locations.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown).
    """

    average: NDArray[np.floating[Any]]
    added: tuple[NDArray[np.floating[Any]], ...]
    targets: NDArray[np.int8]

    def logits(self, setting: LambdaSetting, *, divided: bool = False) -> NDArray[np.floating[Any]]:
        """Compute the logits for a setting: average + λ · added, as in the paper's Figure 1.

        Args:
            setting: Setting of λ and temperature.
            divided: Whether to divide by 1 + λ, which restores the logit scale used in training. The division changes
                probabilities, but not rankings, signs or metrics at p >= 0.5.
        """
        raw = self.average
        if setting.lam:
            raw = raw + setting.lam * self.added[setting.temperature]
        if divided:
            raw = raw / (1 + setting.lam)
        return raw

    def columns(self, columns: Sequence[int]) -> Parts:
        """Select the labels at these positions."""
        return Parts(self.average[:, columns], tuple(part[:, columns] for part in self.added), self.targets[:, columns])


def mean_precisions(parts: Parts, settings: Sequence[LambdaSetting], conventions: str) -> list[float]:
    """Compute the mAP for each setting.

    Raises:
        PredictionsError: mAP is undefined because no label has both a positive and a negative, or a logit is NaN or
            infinite.
    """
    values = [
        evaluate(parts.logits(setting), parts.targets, conventions=conventions, scores="logits").mAP
        for setting in settings
    ]
    defined = [value for value in values if value is not None]
    if len(defined) < len(values):
        raise PredictionsError(
            "mAP is undefined because no label in this split has both a known positive and a known negative; choose a "
            "different split"
        )
    return defined


@dataclass(frozen=True)
class Choice:
    """Chosen λ and temperature, with the gain in mAP over λ = 0.

    Attributes:
        setting: Setting of λ and temperature.
        gain: Difference in mAP with its 95% confidence interval; None without resamples.
    """

    setting: LambdaSetting
    gain: Interval | None


def chosen_here(
    parts: Parts, settings: Sequence[LambdaSetting], scores: Sequence[float], resamples: int, **options: Any
) -> Choice:
    """Choose the setting with the highest mAP on these samples; the first one in case of ties.

    λ = 0 is one of the settings, so the gain is never negative, and a positive gain is not evidence of an improvement.
    For the interval, the best setting is chosen again in each resample. `scores` contains the mAP of each setting. If
    `resamples` is 0, the gain is not computed.
    """
    place = int(np.argmax(scores))
    if not resamples:
        return Choice(settings[place], None)
    best = best_of(
        _Lazily(parts, settings), settings.index(LambdaSetting(0.0)), parts.targets, resamples=resamples, **options
    )
    return Choice(settings[place], replace(best.gain, value=scores[place] - scores[settings.index(LambdaSetting(0.0))]))


def chosen_before(parts: Parts, setting: LambdaSetting, resamples: int, **options: Any) -> Choice:
    """Compute the mAP gain over λ = 0 of a setting that was not chosen on these samples.

    If `resamples` is 0, the gain is not computed.
    """
    if not resamples:
        return Choice(setting, None)
    gain = paired_difference(parts.logits(setting), parts.average, parts.targets, resamples=resamples, **options)
    return Choice(setting, gain)


class _Lazily(Sequence[Any]):
    """Logits for each setting, computed on access because a hundred arrays would not fit in memory."""

    def __init__(self, parts: Parts, settings: Sequence[LambdaSetting]) -> None:
        self.parts, self.settings = parts, settings

    def __len__(self) -> int:
        return len(self.settings)

    def __getitem__(self, place: Any) -> Any:
        return self.parts.logits(self.settings[place])
