"""Hyperparameter search with Optuna's tree-structured Parzen estimator (Bergstra et al., 2011)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

DIGITS = 3  # of a proposed number: enough for a hyper-parameter, and legible in the name of a folder
WIDE = 100.0  # a range of positive numbers this wide is searched on a logarithmic scale
ATTEMPTS = 50

Values = Mapping[str, Any]


def proposals(
    axes: Mapping[str, Sequence[Any]],
    results: Sequence[tuple[Values, float]],
    count: int,
    running: Sequence[Values] = (),
) -> list[dict[str, Any]]:
    """Propose combinations of values that have not been trained and are not being trained.

    The proposals are deterministic: they depend only on the arguments.

    Args:
        axes: Dict from key to values. If all values are numbers, proposals are from the range between the smallest and
            the largest number. Otherwise, the values are chosen from the list.
        results: Combinations that have been trained, with their mAP.
        count: Number of proposals. Fewer proposals are returned if not enough new combinations are found.
        running: Combinations that are being trained.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranges = {key: _distribution(values) for key, values in axes.items()}
    seed = len(results) + len(running)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True))
    for values, mAP in results:
        study.add_trial(create_trial(params=dict(values), distributions=ranges, value=mAP))
    for values in running:  # the sampler keeps away from these
        study.add_trial(create_trial(params=dict(values), distributions=ranges, state=TrialState.RUNNING))
    known = {repr(dict(values)) for values in [*(values for values, _ in results), *running]}
    proposed: list[dict[str, Any]] = []
    for _ in range(ATTEMPTS * count):
        if len(proposed) == count:
            break
        params = study.ask(ranges).params
        values = {key: _rounded(params[key], axes[key]) for key in axes}
        if repr(values) not in known:
            known.add(repr(values))
            proposed.append(values)
    return proposed


def _distribution(values: Sequence[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if any(isinstance(value, bool | str) for value in values):
        return CategoricalDistribution(list(values))
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low >= WIDE
    if all(isinstance(value, int) for value in values):
        return IntDistribution(low, high, log=logarithmic)
    return FloatDistribution(low, high, log=logarithmic)


def _rounded(value: Any, values: Sequence[Any]) -> Any:
    """Round a proposed number, and keep it within the range of `values`."""
    if not isinstance(value, float) or not value:
        return value
    rounded = round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))
    return min(max(rounded, min(values)), max(values))
