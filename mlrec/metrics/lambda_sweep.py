"""Every λ from two numbers a sample and label: the average of the location scores, and their maximum (Figure 1)."""

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
    """λ, and the position of the temperature among those that were kept."""

    lam: float
    temperature: int = 0


@dataclass(frozen=True, eq=False)
class Parts:
    """What a pass over a split keeps.

    Attributes:
        average: (N, C) logits at λ = 0.
        added: for each temperature (N, C), what λ = 1 adds to them; for T = ∞ the maximum over locations.
        targets: (N, C); 1 positive, 0 negative, -1 unknown.
    """

    average: NDArray[np.floating[Any]]
    added: tuple[NDArray[np.floating[Any]], ...]
    targets: NDArray[np.int8]

    def logits(self, setting: LambdaSetting, *, divided: bool = False) -> NDArray[np.floating[Any]]:
        """The paper's Figure 1, average + λ · maximum; `divided` by 1 + λ, of the size that the model was trained for.

        Dividing changes neither a ranking nor a sign, so no metric at p >= 0.5, but every other probability: raw logits
        count the classifier's bias 1 + λ times.
        """
        raw = self.average + setting.lam * self.added[setting.temperature] if setting.lam else self.average
        return raw / (1 + setting.lam) if divided else raw

    def columns(self, columns: Sequence[int]) -> Parts:
        """The labels at these positions."""
        return Parts(self.average[:, columns], tuple(part[:, columns] for part in self.added), self.targets[:, columns])


def mean_precisions(parts: Parts, settings: Sequence[LambdaSetting], conventions: str) -> list[float]:
    """The mAP at each setting.

    Raises:
        PredictionsError: no label has a positive and a negative, so mAP is undefined; a NaN or infinite logit.
    """
    found = [
        evaluate(parts.logits(setting), parts.targets, conventions=conventions, scores="logits").mAP
        for setting in settings
    ]
    defined = [value for value in found if value is not None]
    if len(defined) < len(found):
        raise PredictionsError(
            "no label has a known positive and a known negative in this split: mAP is undefined, so no λ can be chosen"
        )
    return defined


@dataclass(frozen=True)
class Choice:
    """A setting, how it was come by, and what it gains over λ = 0.

    Attributes:
        gain: difference of mAP and its 95 % interval; None where none was asked for.
    """

    setting: LambdaSetting
    gain: Interval | None


def chosen_here(
    parts: Parts, settings: Sequence[LambdaSetting], scores: Sequence[float], resamples: int, **options: Any
) -> Choice:
    """The setting of the highest mAP on the very samples it is scored on, the first of equals.

    λ = 0 is among the settings, so this never loses: the interval repeats the choice in every resample, and by itself
    is no evidence.
    """
    place = int(np.argmax(scores))
    if not resamples:
        return Choice(settings[place], None)
    best = best_of(
        _Lazily(parts, settings), settings.index(LambdaSetting(0.0)), parts.targets, resamples=resamples, **options
    )
    return Choice(settings[place], replace(best.gain, value=scores[place] - scores[settings.index(LambdaSetting(0.0))]))


def chosen_before(parts: Parts, setting: LambdaSetting, resamples: int, **options: Any) -> Choice:
    """A setting that was chosen elsewhere or beforehand, against λ = 0 on the same resamples."""
    gain = (
        paired_difference(parts.logits(setting), parts.average, parts.targets, resamples=resamples, **options)
        if resamples
        else None
    )
    return Choice(setting, gain)


class _Lazily(Sequence[Any]):
    """The logits of each setting, made when asked for: a hundred of them at a time would fill the memory."""

    def __init__(self, parts: Parts, settings: Sequence[LambdaSetting]) -> None:
        self.parts, self.settings = parts, settings

    def __len__(self) -> int:
        return len(self.settings)

    def __getitem__(self, place: Any) -> Any:
        return self.parts.logits(self.settings[place])
