"""What other installed packages add to mlrec, by the entry points of their packages.

The groups are `mlrec.readers`, `mlrec.heads`, `mlrec.losses` and `mlrec.trackers`. The module of an added part is
loaded when the part is used. Names of mlrec's own parts cannot be replaced.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any


def added_by_packages(group: str) -> dict[str, str]:
    """Places of the parts that other packages add to a group, as `module:attribute`, by name.

    Example:
        >>> added_by_packages("mlrec.nothing")
        {}
    """
    return {point.name: point.value for point in entry_points(group=group)}


def load_part(place: str) -> Any:
    """Import a part from its place.

    Args:
        place: Module and attribute, as `module:attribute`.

    Example:
        >>> load_part("math:sqrt")(4.0)
        2.0
    """
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
