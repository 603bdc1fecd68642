"""Temperatures of the heads of CSRA; T = ∞ is the maximum over locations."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlrec.utils.errors import ModelError

# Those of the paper, by number of heads (§3.4).
TEMPERATURES: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    2: (1.0, math.inf),
    4: (1.0, 2.0, 4.0, math.inf),
    6: (1.0, 2.0, 3.0, 4.0, 5.0, math.inf),
    8: (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, math.inf),
}


def resolve_temperatures(heads: int | None, temperatures: Sequence[float] | None) -> tuple[float, ...]:
    """Return the temperatures of the heads: the given ones, or those of the paper for this number of heads.

    Args:
        heads: Number of heads H; None: as many as temperatures, or 1.
        temperatures: Temperature of each head, above 0; None: those of the paper.

    Raises:
        ModelError: The two disagree, the paper has no temperatures for H heads, or a temperature is not above 0.

    Example:
        >>> resolve_temperatures(4, None)
        (1.0, 2.0, 4.0, inf)
    """
    if temperatures is None:
        count = 1 if heads is None else heads
        if count not in TEMPERATURES:
            known = ", ".join(map(str, TEMPERATURES))
            raise ModelError(f"heads = {count}: the paper has {known} heads; for another number, set temperatures")
        return TEMPERATURES[count]
    try:
        values = tuple(float(t) for t in temperatures)
    except (TypeError, ValueError) as error:
        raise ModelError(f"temperatures = {temperatures}: give a number for each head") from error
    if heads not in (None, len(values)):
        raise ModelError(f"heads = {heads} but {len(values)} temperatures; set only one of them, or the same number")
    if not values or not all(t > 0 for t in values):
        raise ModelError(f"temperatures = {list(values)}: give at least one, each above 0; inf means max")
    return values
