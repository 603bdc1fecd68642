"""`mlrec recipes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console
from mlrec.utils.errors import UsageError, nearest, printable

ACTIONS = ("list", "show", "copy")


def recipes(
    action: Annotated[str, typer.Argument(help="list, show or copy.", metavar="ACTION")] = "list",
    name: Annotated[str | None, typer.Argument(help="Name of a recipe.")] = None,
    path: Annotated[
        Path | None, typer.Argument(help="File to copy it to [default: NAME.toml].", metavar="FILE")
    ] = None,
) -> None:
    """List the training recipes, show one, or copy one to change it.

    Example: mlrec recipes copy paper my.toml && mlrec train --config my.toml
    """
    from mlrec import recipes as stored

    if action not in ACTIONS:
        raise UsageError(f"mlrec recipes {printable(action)}: there is {', '.join(ACTIONS)}{nearest(action, ACTIONS)}")
    if action == "list":
        width = max(map(len, stored.names()))
        console.result("\n".join(f"{entry:{width}}  {stored.title(entry)}" for entry in stored.names()))
    elif name is None:
        raise UsageError(f"mlrec recipes {action}: name a recipe: {', '.join(stored.names())}")
    elif action == "show":
        console.result(stored.text(name))
    else:
        console.result(f"written to {stored.copy(name, path)}; use it with mlrec train --config")
