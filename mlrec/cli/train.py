"""`mlrec train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlrec.cli import console, options
from mlrec.errors import UsageError

Recipe = Annotated[str | None, typer.Option(help="Name of a recipe [default: the data set's]; see mlrec recipes.")]
File = Annotated[Path | None, typer.Option("--config", help="TOML file of keys; `base` in it names a recipe.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A key and its value, as key=value; repeatable.")]
Name = Annotated[str | None, typer.Option(help="Name of the run's folder [default: data, backbone, head, a number].")]
Resume = Annotated[Path | None, typer.Option(help="Go on with this run, to the same bits.", metavar="RUN")]


@options.with_config_flags
def train(
    flags: dict[str, Any],
    recipe: Recipe = None,
    config: File = None,
    settings: Settings = None,
    out: options.Out = Path("runs"),
    name: Name = None,
    resume: Resume = None,
) -> None:
    """Train a model on a prepared data set and score it; a flag wins over --config, that over the recipe.

    Example: mlrec train --data data/voc2007 --backbone resnet101 --heads 1 --lam 0.1
    """
    from mlrec.workflows import train as workflow
    from mlrec.workflows.interrupt import Interrupted

    flags = options.assignments(settings or []) | flags
    terminal = console.Terminal()
    try:
        if resume is None:
            run = workflow.train(flags, file=config, recipe=recipe, out=out, name=name, progress=terminal)
        elif recipe or config or name:
            raise UsageError("--resume takes recipe, config and name from the run; leave them out")
        else:
            run = workflow.resume(resume, flags, progress=terminal)
    except Interrupted as stopped:
        terminal.say(str(stopped))
        raise typer.Exit(stopped.exit_code) from None
    if run.path.name:  # of several processes the first alone has a folder
        _tell(run)


def _tell(run: Any) -> None:
    from mlrec.reports.formats import FORMATS
    from mlrec.reports.overview import overview
    from mlrec.reports.results import result_of

    console.result(FORMATS["table"]([overview([result_of(run)], title=run.record.name)]))
    console.result(f"written to {run.path}; next: mlrec eval {run.path} --top3")
