"""Recipes: one TOML file per training setup.

`base = "NAME"` builds on another recipe. The tables `[data.KIND]` and `[head.NAME]` hold the differences for one kind
of data or one head.
"""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from mlrec import config
from mlrec.utils.errors import ConfigError, nearest, printable

BASE = "base"
Tables = dict[str, Any]


def names() -> list[str]:
    """The names of all recipes, the paper's own first."""
    found = [entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml")]
    return sorted(found, key=lambda name: (not name.startswith("paper"), name))


def text(name: str) -> str:
    """The text of a recipe, with its comments.

    Raises:
        ConfigError: No recipe of that name.
    """
    if name not in names():
        raise ConfigError(f"no recipe '{printable(name)}'{nearest(name, names())}; see mlrec recipes list")
    return (_folder() / f"{name}.toml").read_text(encoding="utf-8")


def title(name: str) -> str:
    """The first line of the recipe's opening comment."""
    return text(name).splitlines()[0].lstrip("# ").rstrip()


def chain(name: str) -> list[tuple[str, Tables]]:
    """The recipe and its bases, the strongest first, as (name, tables without `base`).

    Raises:
        ConfigError: No recipe of that name, or the bases form a cycle.
    """
    layers: list[tuple[str, Tables]] = []
    following: Any = name
    while following is not None:
        if following in [known for known, _ in layers]:
            raise ConfigError(f"recipe {printable(name)}: its bases form a cycle")
        tables = config.parse_toml(text(following), f"recipe {following}")
        layers.append((following, {key: value for key, value in tables.items() if key != BASE}))
        following = tables.get(BASE)
    return layers


def _folder() -> Traversable:
    return resources.files(__name__)
