"""Temperatures of CSRA heads; T = ∞ is the maximum over locations."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlrec.utils.errors import ModelError

# Temperatures in the paper, by number of heads (§3.4).
TEMPERATURES: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    2: (1.0, math.inf),
    4: (1.0, 2.0, 4.0, math.inf),
    6: (1.0, 2.0, 3.0, 4.0, 5.0, math.inf),
    8: (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, math.inf),
}


def resolve_temperatures(heads: int | None, temperatures: Sequence[float] | None) -> tuple[float, ...]:
    """Return `temperatures` if they are set, otherwise the paper's temperatures for this number of heads.

    Args:
        heads: Number of heads H; the default is the number of temperatures, or 1.
        temperatures: Temperature of each head, greater than 0; the default is the paper's temperatures.

    Raises:
        ModelError: The numbers of heads and temperatures differ, the paper has no temperatures for H heads, or a
            temperature is not greater than 0.

    Example:
        >>> resolve_temperatures(4, None)
        (1.0, 2.0, 4.0, inf)
    """
    if temperatures is None:
        count = 1 if heads is None else heads
        if count not in TEMPERATURES:
            known = ", ".join(map(str, TEMPERATURES))
            raise ModelError(f"heads = {count}: the paper uses {known} heads; for a different number, set temperatures")
        return TEMPERATURES[count]
    try:
        values = tuple(float(t) for t in temperatures)
    except (TypeError, ValueError) as error:
        raise ModelError(f"temperatures = {temperatures}: expected one number per head") from error
    if heads not in (None, len(values)):
        raise ModelError(
            f"heads = {heads}, but there are {len(values)} temperatures; set only one of the two, or make them equal"
        )
    if not values or not all(t > 0 for t in values):
        raise ModelError(f"temperatures = {list(values)}: expected at least one number greater than 0; inf means max")
    return values
