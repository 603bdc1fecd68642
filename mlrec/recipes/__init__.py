"""Recipes: one TOML for each way of training.

`base = "NAME"` builds on another recipe; the tables `[data.KIND]` and `[head.NAME]` say what differs there.
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
    """The recipe as it lies in the package, comments and all.

    Raises:
        ConfigError: there is no recipe of that name.
    """
    if name not in names():
        raise ConfigError(f"no recipe '{printable(name)}'{nearest(name, names())}; mlrec recipes list names them")
    return (_folder() / f"{name}.toml").read_text(encoding="utf-8")


def title(name: str) -> str:
    """The first line of the recipe's opening comment."""
    return text(name).splitlines()[0].lstrip("# ").rstrip()


def chain(name: str) -> list[tuple[str, Tables]]:
    """The recipe and what it is based on, the strongest first, as (name, tables with `base` taken out).

    Raises:
        ConfigError: there is no such recipe, or the bases run in a circle.
    """
    layers: list[tuple[str, Tables]] = []
    following: Any = name
    while following is not None:
        if following in [known for known, _ in layers]:
            raise ConfigError(f"recipe {printable(name)}: its bases run in a circle")
        tables = config.parse_toml(text(following), f"recipe {following}")
        layers.append((following, {key: value for key, value in tables.items() if key != BASE}))
        following = tables.get(BASE)
    return layers


def _folder() -> Traversable:
    return resources.files(__name__)
