"""`mlrec recipes`: the recipes that come with mlrec, shown and copied."""

from __future__ import annotations

from pathlib import Path

from mlrec import recipes
from mlrec.utils.errors import UsageError, printable
from mlrec.utils.files import write_text


def listed() -> list[tuple[str, str]]:
    """Name and first line of every recipe."""
    return [(name, recipes.title(name)) for name in recipes.names()]


def copy(name: str, path: Path | None = None) -> Path:
    """Write a recipe to a file of one's own, for `mlrec train --config`.

    Raises:
        ConfigError: no such recipe.
        UsageError: the file exists already.
    """
    path = path or Path(f"{name}.toml")
    content = recipes.text(name)
    if path.exists():
        raise UsageError(f"{printable(path)}: exists already; give another file")
    write_text(path, content)
    return path
