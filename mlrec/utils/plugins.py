"""What other installed packages add to mlrec, by the entry points of their packages.

The groups are `mlrec.readers`, `mlrec.heads`, `mlrec.losses` and `mlrec.trackers`. The module of an added part is
loaded when the part is used. Names of mlrec's own parts cannot be replaced.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from importlib.metadata import entry_points
from typing import Any

from mlrec.utils.errors import MlrecError, nearest

GROUPS = {"reader": "mlrec.readers", "head": "mlrec.heads", "loss": "mlrec.losses", "tracker": "mlrec.trackers"}


def added_by_packages(group: str) -> dict[str, str]:
    """Places of the parts that other packages add to a group, as `module:attribute`, by name.

    Example:
        >>> added_by_packages("mlrec.nothing")
        {}
    """
    return {point.name: point.value for point in entry_points(group=group)}


def is_part(kind: str, name: str, own: Collection[str]) -> bool:
    """Whether `own` or another package has a part of this name; arguments as of `part_names`."""
    return name in own or name in added_by_packages(GROUPS[kind])  # own ones first: that needs no search for packages


def part_names(kind: str, own: Collection[str]) -> tuple[str, ...]:
    """Names of all parts of a kind: mlrec's own, then those that other packages add.

    Args:
        kind: Kind of the parts, a key of `GROUPS`.
        own: Names of mlrec's own parts.

    Example:
        >>> part_names("head", ("csra", "average"))[:2]
        ('csra', 'average')
    """
    return tuple(dict.fromkeys((*own, *added_by_packages(GROUPS[kind]))))


def load_part(place: str) -> Any:
    """Import a part from its place.

    Args:
        place: Module and attribute, as `module:attribute`.

    Raises:
        MlrecError: The part of another package cannot be imported.

    Example:
        >>> load_part("math:sqrt")(4.0)
        2.0
    """
    module, _, attribute = place.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        if module.startswith("mlrec."):
            raise  # mlrec's own module: a missing dependency, or a bug
        reason = f"{type(error).__name__}: {error}"
        raise MlrecError(f"{place}: cannot be imported ({reason}); fix or update its package") from error


def find_part(kind: str, name: str, own: Mapping[str, str], error: type[MlrecError] = MlrecError) -> Any:
    """Return the part of this name: mlrec's own, otherwise the one that another package adds.

    Args:
        kind: Kind of the part, a key of `GROUPS`.
        name: Name of the part.
        own: Places of mlrec's own parts, as `module:attribute`, by name.
        error: Error for an unknown name.

    Raises:
        MlrecError: The part cannot be imported, or (`error`) the name is unknown; the message lists what exists.

    Example:
        >>> find_part("loss", "root", {"root": "math:sqrt"})(4.0)
        2.0
    """
    if name in own:
        return load_part(own[name])
    added = added_by_packages(GROUPS[kind])
    if name not in added:
        known = part_names(kind, own)
        raise error(f"no {kind} '{name}'; there are {', '.join(known)}{nearest(name, known)}")
    return load_part(added[name])
