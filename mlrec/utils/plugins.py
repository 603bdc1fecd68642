"""Parts that other installed packages add to mlrec through entry points.

The entry-point groups are `mlrec.readers`, `mlrec.heads`, `mlrec.losses` and `mlrec.trackers`. The module of a part is
imported when the part is used. Built-in parts cannot be replaced.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from importlib.metadata import entry_points
from typing import Any

from mlrec.utils.errors import MlrecError, nearest

GROUPS = {"reader": "mlrec.readers", "head": "mlrec.heads", "loss": "mlrec.losses", "tracker": "mlrec.trackers"}


def added_by_packages(group: str) -> dict[str, str]:
    """Return the parts that other packages add to a group, as a mapping from name to `module:attribute`.

    Example:
        >>> added_by_packages("mlrec.nothing")
        {}
    """
    return {point.name: point.value for point in entry_points(group=group)}


def is_part(kind: str, name: str, own: Collection[str]) -> bool:
    """Return whether `own` or another package has a part with this name.

    The arguments are those of `part_names`.
    """
    return name in own or name in added_by_packages(
        GROUPS[kind]
    )  # built-in parts first, to avoid a search for packages


def part_names(kind: str, own: Collection[str]) -> tuple[str, ...]:
    """Return the names of all parts of a kind: built-in parts first, then parts from other packages.

    Args:
        kind: Kind of the parts, a key in `GROUPS`.
        own: Names of mlrec's built-in parts.

    Example:
        >>> part_names("head", ("csra", "average"))[:2]
        ('csra', 'average')
    """
    return tuple(dict.fromkeys((*own, *added_by_packages(GROUPS[kind]))))


def load_part(place: str) -> Any:
    """Import a part.

    Args:
        place: Module and attribute, as `module:attribute`.

    Raises:
        MlrecError: A part from another package cannot be imported.

    Example:
        >>> load_part("math:sqrt")(4.0)
        2.0
    """
    module, _, attribute = place.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        if module.startswith("mlrec."):
            raise  # a module of mlrec: a dependency is missing, or there is a bug
        reason = f"{type(error).__name__}: {error}"
        raise MlrecError(f"{place}: import failed ({reason}); fix or update the package") from error


def find_part(kind: str, name: str, own: Mapping[str, str], error: type[MlrecError] = MlrecError) -> Any:
    """Return the part with this name, from mlrec or from another package.

    Args:
        kind: Kind of the part, a key in `GROUPS`.
        name: Name of the part.
        own: Mapping from names of mlrec's built-in parts to `module:attribute`.
        error: Class of the error for an unknown name.

    Raises:
        MlrecError: The part cannot be imported, or the name is unknown. In the second case, the error is of class
            `error`, and the message lists the existing names.

    Example:
        >>> find_part("loss", "root", {"root": "math:sqrt"})(4.0)
        2.0
    """
    if name in own:
        return load_part(own[name])
    added = added_by_packages(GROUPS[kind])
    if name not in added:
        known = part_names(kind, own)
        raise error(f"unknown {kind} '{name}'; expected one of {', '.join(known)}{nearest(name, known)}")
    return load_part(added[name])
