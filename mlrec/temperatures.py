"""Temperatures of CSRA's heads, of which T = ∞ means the maximum over locations: the one place of these rules."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlrec.utils.errors import ModelError, printable

# The paper's, by number of heads (§3.4).
TEMPERATURES: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    2: (1.0, math.inf),
    4: (1.0, 2.0, 4.0, math.inf),
    6: (1.0, 2.0, 3.0, 4.0, 5.0, math.inf),
    8: (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, math.inf),
}


def resolve_temperatures(heads: int | None, temperatures: Sequence[float] | None) -> tuple[float, ...]:
    """The temperatures of `heads` heads: those given, or the paper's.

    Raises:
        ModelError: the two disagree, the paper has none for this number, or one is not above 0.
    """
    if temperatures is None:
        if (count := 1 if heads is None else heads) not in TEMPERATURES:
            known = ", ".join(map(str, TEMPERATURES))
            raise ModelError(f"heads = {count}: the paper's heads are {known}; for another number give temperatures")
        return TEMPERATURES[count]
    try:
        degrees = tuple(float(t) for t in temperatures)
    except (TypeError, ValueError) as error:
        raise ModelError(f"temperatures = {printable(temperatures)}: give a number for each head") from error
    if heads not in (None, len(degrees)):
        raise ModelError(f"heads = {heads} but {len(degrees)} temperatures; give one of them, or as many of both")
    if not degrees or not all(t > 0 for t in degrees):
        raise ModelError(f"temperatures = {list(degrees)}: at least one, each above 0; inf means max")
    return degrees
