"""Plugins: readers, heads, losses and trackers that other installed packages provide.

The entry-point groups are `mlrec.readers`, `mlrec.heads`, `mlrec.losses` and `mlrec.trackers`. The module of a plugin
is imported when the plugin is used. Plugins cannot replace built-in readers, heads, losses or trackers.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from importlib.metadata import entry_points
from typing import Any

from mlrec.utils.errors import MlrecError, nearest

GROUPS = {"reader": "mlrec.readers", "head": "mlrec.heads", "loss": "mlrec.losses", "tracker": "mlrec.trackers"}


def added_by_packages(group: str) -> dict[str, str]:
    """Return the plugins in an entry-point group, as a mapping from name to `module:attribute`.

    Example:
        >>> added_by_packages("mlrec.nothing")
        {}
    """
    return {point.name: point.value for point in entry_points(group=group)}


def is_part(kind: str, name: str, own: Collection[str]) -> bool:
    """Return whether a built-in component or a plugin has this name.

    See `part_names` for the arguments.
    """
    return name in own or name in added_by_packages(GROUPS[kind])  # the search for packages only where it is needed


def part_names(kind: str, own: Collection[str]) -> tuple[str, ...]:
    """Return the names of all components of a kind: first the built-in components, then the plugins.

    Args:
        kind: Kind of component, a key in `GROUPS`.
        own: Names of the built-in components.

    Example:
        >>> part_names("head", ("csra", "average"))[:2]
        ('csra', 'average')
    """
    return tuple(dict.fromkeys((*own, *added_by_packages(GROUPS[kind]))))


def load_part(place: str) -> Any:
    """Import a built-in component or a plugin.

    Args:
        place: Location of the component, as `module:attribute`.

    Raises:
        MlrecError: A plugin cannot be imported.

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
        raise MlrecError(f"{place}: the plugin cannot be imported ({reason}); fix or update its package") from error


def find_part(kind: str, name: str, own: Mapping[str, str], error: type[MlrecError] = MlrecError) -> Any:
    """Return the built-in component or plugin with this name.

    Args:
        kind: Kind of component, a key in `GROUPS`.
        name: Name of the component.
        own: Mapping from the names of the built-in components to `module:attribute`.
        error: Class of the error for an unknown name.

    Raises:
        MlrecError: The plugin cannot be imported, or the name is unknown. For an unknown name, the error is of class
            `error`, and the message lists the known names.

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
