"""`mlrec train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlrec.cli import console, options
from mlrec.utils import processes
from mlrec.utils.errors import UsageError
from mlrec.utils.signals import Interrupted

if TYPE_CHECKING:
    from mlrec.run_folders.record import Run

Recipe = Annotated[
    str | None,
    typer.Option(help="Name of a recipe (see mlrec recipes) [default: the recipe for the dataset].", metavar="NAME"),
]
File = Annotated[
    Path | None, typer.Option("--config", help="TOML configuration file; its `base` key sets the base recipe.")
]
Name = Annotated[
    str | None,
    typer.Option(help="Name of the run folder [default: DATASET-BACKBONE-HEAD-NUMBER].", rich_help_panel="Output"),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        help="Run to resume; the result is bit-exact on the CPU, and on CUDA with --deterministic.", metavar="RUN"
    ),
]
Compare = Annotated[
    bool, typer.Option("--compare", help="Compare CSRA with average pooling; short for mlrec sweep --study compare.")
]
Seeds = Annotated[
    str | None, typer.Option(help="Random seeds for --compare [default: the value of --seed].", metavar="A,B,...")
]


@options.with_config_flags
def train(
    flags: dict[str, Any],
    recipe: Recipe = None,
    config: File = None,
    settings: options.Settings = None,
    out: options.Out = Path("runs"),
    name: Name = None,
    resume: Resume = None,
    compare: Compare = False,
    seeds: Seeds = None,
    json: options.Json = False,
    full: options.Full = False,
) -> None:
    """Train a model and evaluate it.

    Flags override --config, which overrides the recipe. Run mlrec doctor first to check the data, the weights and the
    machine.

    Example: mlrec train data/voc2007 --backbone resnet101 --heads 1 --lam 0.1
    """
    from mlrec.workflows.train import train as workflow

    flags = options.with_settings(settings, flags)
    terminal = console.Terminal()
    if resume is not None and (recipe or config or name or compare):
        raise UsageError(
            "--recipe, --config, --name and --compare cannot be used with --resume, because a resumed run keeps its "
            "settings; omit these options"
        )
    if seeds is not None and not compare:
        raise UsageError("--seeds requires --compare; use --seed for a single run")
    if compare:
        from mlrec.cli.sweep import run_and_show
        from mlrec.sweeps.executor import SweepExecutor
        from mlrec.sweeps.plan import plan_sweep

        numbers = options.whole_numbers(str(flags.get("seed", 0)) if seeds is None else seeds, "--seeds")
        plan = plan_sweep(
            flags, study="compare", seeds=numbers, file=config, recipe=recipe, out=out, name=name, progress=terminal
        )
        run_and_show(SweepExecutor(plan), terminal, compared=True, json=json, full=full)
        return
    try:
        if resume is not None:
            run = workflow.resume(resume, flags, progress=terminal)
        else:
            run = workflow.train(flags, file=config, recipe=recipe, out=out, name=name, progress=terminal)
    except Interrupted as stopped:
        if processes.rank() == 0:
            terminal.say(str(stopped))
        raise typer.Exit(stopped.exit_code) from None
    if processes.rank() == 0:  # only the first process prints
        _print_run(run, json)


def _print_run(run: Run, json: bool) -> None:
    """Print the metrics of a run and the next command."""
    metrics = run.metrics()
    if json:
        console.result_json({"run": str(run.path), "metrics": metrics.to_dict()})
        return
    console.result_line(run.name)
    console.result(str(metrics))
    console.result_line(f"written to {run.path}; next: mlrec eval {run.path} --top3")
