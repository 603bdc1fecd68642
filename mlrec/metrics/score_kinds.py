"""Kind of scores, logits or probabilities: stated by the caller or decided from the values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.metrics.conventions import ScoreKind
from mlrec.utils.errors import PredictionsError

TOLERANCE = 1e-4  # rounding: probabilities may be outside of [0, 1] by this much, and are clipped
THRESHOLDS: dict[ScoreKind, float] = {"logits": 0.0, "probabilities": 0.5}
Floats = NDArray[np.floating[Any]]


def implied_kind(values: Floats) -> ScoreKind | None:
    """Return "logits" if a value is negative, or None if all values are in [0, 1] and could be of either kind.

    Both ends of [0, 1] allow for `TOLERANCE`. NaN and infinite values are ignored.

    Raises:
        PredictionsError: No value is negative and one is above 1, as in percentages.

    Example:
        >>> implied_kind(np.array([-2.0, 0.5])), implied_kind(np.array([0.1, 0.5]))
        ('logits', None)
    """
    low, high = _range(values)
    if low < -TOLERANCE:
        return "logits"
    if high > 1 + TOLERANCE:
        raise PredictionsError(
            f"scores are in {low:g} to {high:g}, none of them negative: percentages? rounding? Divide percentages by "
            "100; if these are logits, state it (--logits, or scores='logits' in Python)"
        )
    return None


def clipped(probabilities: Floats) -> tuple[Floats, int]:
    """Clip rounding errors of probabilities to [0, 1].

    Returns:
        Probabilities in their own dtype, and the number of clipped values.

    Raises:
        PredictionsError: A value is outside by more than `TOLERANCE`.

    Example:
        >>> clipped(np.array([0.5, 1.00001]))
        (array([0.5, 1. ]), 1)
    """
    low, high = _range(probabilities)
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        hint = "negative values are logits"
        if low >= -TOLERANCE:
            hint = "divide percentages by 100"
        value = high if high > 1 + TOLERANCE else low
        raise PredictionsError(f"a score of {value:g} is not a probability; probabilities are in 0 to 1 ({hint})")
    if low >= 0 and high <= 1:
        return probabilities, 0
    outside = int(np.count_nonzero((probabilities < 0) | (probabilities > 1)))
    return np.clip(probabilities, 0, 1), outside


def _range(values: Floats) -> tuple[float, float]:
    """The lowest and highest finite value; 0 and 0 without finite values."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 0.0
    return float(finite.min()), float(finite.max())
