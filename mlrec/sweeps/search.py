"""Where a search looks next: the tree-structured Parzen estimator (Bergstra et al. 2011) of Optuna."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mlrec.errors import UsageError

DIGITS = 3  # of a proposed number: enough for any hyper-parameter, and legible in a folder's name
WIDE = 100.0  # a range of positive numbers that spans so much is searched in its logarithm
ATTEMPTS = 50

Told = Sequence[tuple[Mapping[str, Any], float]]


def proposals(axes: Mapping[str, Sequence[Any]], told: Told, count: int) -> list[dict[str, Any]]:
    """Settings worth a run, none of them told already.

    The same `told` gives the same proposals, wherever they are made. Fewer than `count` come where the axes hold fewer.

    Args:
        axes: numbers are searched between the smallest and the largest given, other values among those given.
        told: settings that were run, and their mAP.
        count: how many.

    Raises:
        UsageError: the values of an axis are lists.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranges = {key: _distribution(key, values) for key, values in axes.items()}
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=len(told), constant_liar=True)
    )
    for settings, value in told:
        trial = optuna.trial.create_trial(params=dict(settings), distributions=ranges, value=value)
        study.add_trial(trial)
    known = {repr(dict(settings)) for settings, _ in told}
    found: list[dict[str, Any]] = []
    for _ in range(ATTEMPTS * count):
        if len(found) == count:
            break
        settings = {key: _legible(value, axes[key]) for key, value in study.ask(ranges).params.items()}
        settings = {key: settings[key] for key in axes}
        if repr(settings) not in known:
            known.add(repr(settings))
            found.append(settings)
    return found


def _distribution(key: str, values: Sequence[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if any(isinstance(value, list) for value in values):
        raise UsageError(f"--trials cannot search over {key}, whose values are lists; sweep over them in a grid")
    if any(isinstance(value, bool | str) for value in values):
        return CategoricalDistribution(list(values))
    low, high = min(values), max(values)
    wide = low > 0 and high / low >= WIDE
    kind = IntDistribution if all(isinstance(value, int) for value in values) else FloatDistribution
    return kind(low, high, log=wide)


def _legible(value: Any, values: Sequence[Any]) -> Any:
    """A proposed number rounded, and still within its range."""
    if not isinstance(value, float) or not value:
        return value
    rounded = round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))
    return min(max(rounded, min(values)), max(values))
