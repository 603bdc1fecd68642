"""`mlrec recipes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import UsageError, nearest

ACTIONS = ("list", "show", "copy")


def recipes(
    action: Annotated[str, typer.Argument(help="Action: list, show or copy.", metavar="ACTION")] = "list",
    name: Annotated[str | None, typer.Argument(help="Name of a recipe.", metavar="NAME")] = None,
    path: Annotated[
        Path | None, typer.Argument(help="Output file for the copy action [default: NAME.toml].", metavar="FILE")
    ] = None,
    json: options.Json = False,
) -> None:
    """List, show or copy training recipes.

    Example: mlrec recipes copy paper my.toml && mlrec train --config my.toml
    """
    from mlrec.config_layers import copy_recipe, recipe_names, recipe_text, recipe_title

    if action not in ACTIONS:
        raise UsageError(
            f"mlrec recipes {action}: unknown action; expected one of {', '.join(ACTIONS)}{nearest(action, ACTIONS)}"
        )
    if action == "list":
        listed = [(entry, recipe_title(entry)) for entry in recipe_names()]
        if json:
            console.result_json([{"name": entry, "title": title} for entry, title in listed])
            return
        width = max(len(entry) for entry, _ in listed)
        console.result("\n".join(f"{entry:{width}}  {title}" for entry, title in listed))
    elif name is None:
        raise UsageError(f"mlrec recipes {action}: NAME is missing; choose one of {', '.join(recipe_names())}")
    elif action == "show":
        text = recipe_text(name)
        if json:
            console.result_json({"name": name, "text": text})
        else:
            console.result(text)
    else:
        file = copy_recipe(name, path)
        if json:
            console.result_json({"name": name, "file": str(file)})
        else:
            console.result_line(f"written to {file}; next: mlrec train --config {file}")
