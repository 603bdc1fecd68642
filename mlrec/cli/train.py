"""`mlrec train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlrec.cli import console, options
from mlrec.utils import processes
from mlrec.utils.errors import UsageError

if TYPE_CHECKING:
    from mlrec.runs.record import Run

Recipe = Annotated[str | None, typer.Option(help="Name of a recipe [default: the dataset's]; see mlrec recipes.")]
File = Annotated[Path | None, typer.Option("--config", help="TOML file of keys; `base` in it names a recipe.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A key and its value, as key=value; repeatable.")]
Name = Annotated[str | None, typer.Option(help="Name of the run's folder [default: data, backbone, head, a number].")]
Resume = Annotated[
    Path | None, typer.Option(help="Resume this run (bit-exact; on CUDA with --deterministic).", metavar="RUN")
]
Compare = Annotated[
    bool, typer.Option("--compare", help="Short for mlrec sweep --study compare: four rows, one recipe.")
]
Seeds = Annotated[str | None, typer.Option(help="Seeds of --compare [default: the one seed].", metavar="A,B,...")]


@options.with_config_flags
def train(
    flags: dict[str, Any],
    recipe: Recipe = None,
    config: File = None,
    settings: Settings = None,
    out: options.Out = Path("runs"),
    name: Name = None,
    resume: Resume = None,
    compare: Compare = False,
    seeds: Seeds = None,
) -> None:
    """Train a model on a prepared dataset and score it; a flag wins over --config, that over the recipe.

    Example: mlrec train --data data/voc2007 --backbone resnet101 --heads 1 --lam 0.1
    """
    from mlrec.workflows.train import train as workflow
    from mlrec.workflows.train.interrupt import Interrupted

    flags = options.with_settings(settings, flags)
    terminal = console.Terminal()
    if resume is not None and (recipe or config or name or compare):
        raise UsageError("--resume takes recipe, config and name from the run; leave them out")
    if seeds is not None and not compare:
        raise UsageError("--seeds goes with --compare; one run has one --seed")
    if compare:
        from mlrec.cli.sweep import run_and_show
        from mlrec.sweeps.executor import SweepExecutor
        from mlrec.sweeps.plan import plan_sweep

        numbers = options.whole_numbers(str(flags.get("seed", 0)) if seeds is None else seeds, "--seeds")
        plan = plan_sweep(
            flags, study="compare", seeds=numbers, file=config, recipe=recipe, out=out, name=name, progress=terminal
        )
        run_and_show(SweepExecutor(plan), terminal, compared=True)
        return
    try:
        if resume is not None:
            _tell(workflow.resume(resume, flags, progress=terminal))
        else:
            _tell(workflow.train(flags, file=config, recipe=recipe, out=out, name=name, progress=terminal))
    except Interrupted as stopped:
        if processes.rank() == 0:
            terminal.say(str(stopped))
        raise typer.Exit(stopped.exit_code) from None


def _tell(run: Run) -> None:
    """Show a run as a report does; of several processes only the first speaks."""
    from mlrec.reports.results import result_of
    from mlrec.reports.runs_table import runs_table

    if processes.rank() == 0:
        console.result_tables([runs_table([result_of(run)], title=run.record.name)])
        console.result(f"written to {run.path}; next: mlrec eval {run.path} --top3")
