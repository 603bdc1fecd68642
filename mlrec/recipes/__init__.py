"""Recipes: one TOML file per training setup.

`base = "NAME"` extends another recipe. The tables `[data.KIND]` and `[head.NAME]` contain values that apply only to one
kind of data or one head.
"""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from mlrec import config_layers
from mlrec.utils.errors import ConfigError, UsageError, nearest
from mlrec.utils.files import write_text

BASE = "base"
Tables = dict[str, Any]


def names() -> list[str]:
    """Return the names of all recipes, with the paper's recipes first."""
    found = [entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml")]
    return sorted(found, key=lambda name: (not name.startswith("paper"), name))


def text(name: str) -> str:
    """Return the TOML text of a recipe, including comments.

    Raises:
        ConfigError: There is no recipe with that name.
    """
    if name not in names():
        raise ConfigError(f"no recipe '{name}'{nearest(name, names()) or '; see mlrec recipes list'}")
    return (_folder() / f"{name}.toml").read_text(encoding="utf-8")


def title(name: str) -> str:
    """Return the first comment line of a recipe."""
    return text(name).splitlines()[0].lstrip("# ").rstrip()


def copy(name: str, path: Path | None = None) -> Path:
    """Write a recipe to a file for `mlrec train --config` and return the path of the file.

    Args:
        name: Name of a recipe.
        path: New file [default: NAME.toml].

    Raises:
        ConfigError: There is no recipe with that name.
        UsageError: The file already exists.
    """
    path = path or Path(f"{name}.toml")
    content = text(name)
    if path.exists():
        raise UsageError(f"{path}: the file already exists; choose a different file name")
    write_text(path, content)
    return path


def chain(name: str) -> list[tuple[str, Tables]]:
    """Return a recipe and its base recipes, in order of priority, as (name, tables without `base`).

    Raises:
        ConfigError: There is no recipe with that name, or the base recipes form a cycle.
    """
    layers: list[tuple[str, Tables]] = []
    following: Any = name
    while following is not None:
        if following in [known for known, _ in layers]:
            raise ConfigError(f"recipe {name}: the base recipes form a cycle; change one base")
        tables = config_layers.parse_toml(text(following), f"recipe {following}")
        layers.append((following, {key: value for key, value in tables.items() if key != BASE}))
        following = tables.get(BASE)
    return layers


def _folder() -> Traversable:
    return resources.files(__name__)
