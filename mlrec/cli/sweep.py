"""`mlrec sweep`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlrec.cli import console, options
from mlrec.errors import RunError, counted

if TYPE_CHECKING:
    from mlrec.sweeps.states import State


@partial(options.with_config_flags, as_typed=True)
def sweep(
    flags: dict[str, Any],
    study: Annotated[
        str | None, typer.Option(help="table6, table7, table8, figure5 or compare: the paper's own.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A key and its values, as key=v1,v2; repeatable.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Run each setting with each of these seeds.", metavar="A,B")] = None,
    folds: Annotated[int | None, typer.Option(help="Run each setting on so many folds of the training split.")] = None,
    trials: Annotated[
        int | None, typer.Option(help="No grid: so many runs with values between those given, chosen by TPE.", min=1)
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(help="As --set; of these values each setting gets its best, by data held out from training."),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Name of a recipe [default: the data set's].")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of keys for all runs.")] = None,
    out: options.Out = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Of the sweep's folder [default: the study, or the keys].")] = None,
    jobs: Annotated[int, typer.Option(help="Worker processes here.", min=1)] = 1,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage that workers share [default: a journal file in the folder].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and about how long it takes.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try once more what failed twice and was given up.")
    ] = False,
    labels: options.Labels = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Show 95 % intervals of mAP and of its differences in the last table.")
    ] = False,
) -> None:
    """Train a grid of settings, one run each; every flag of mlrec train takes several values, a,b,c or start:stop:step.

    The same command, again or on another machine that sees the folder, takes what is missing and goes on with what was
    interrupted; what is finished stays. A run that fails does not stop the others.

    Example: mlrec sweep --lam 0,0.1,0.2 --heads 1,2,4 --seeds 0,1,2
    """
    from mlrec.sweeps.grid import check_texts
    from mlrec.workflows import sweep as workflow
    from mlrec.workflows import sweep_progress
    from mlrec.workflows.interrupt import Interrupted
    from mlrec.workflows.sweep_plan import plan_sweep
    from mlrec.workflows.sweep_report import study_report

    terminal = console.Terminal()
    set_texts = options.pairs(settings or [], "--set")
    check_texts(set_texts, "--set")
    plan = plan_sweep(
        set_texts | flags, study=study, tune=options.pairs(tune or [], "--tune"),
        seeds=None if seeds is None else options.whole_numbers(seeds, "--seeds"), folds=folds, trials=trials,
        file=config, recipe=recipe, out=out, name=name, progress=terminal,
    )  # fmt: skip
    if dry_run:
        console.result_tables([sweep_progress.dry_run(plan, jobs=jobs)])
        return
    try:
        moments = workflow.run_sweep(
            plan, jobs=jobs, storage=storage, retry_failed=retry_failed, labels=options.names(labels)
        )
        states = _shown(plan.title, moments, terminal, " over all labels" if labels else "")
    except Interrupted as stopped:
        terminal.say(str(stopped))
        raise typer.Exit(stopped.exit_code) from None
    failed = sweep_progress.failures(states)
    if any(state.status == "finished" for state in states):
        table = study_report(plan.folder.path, labels=options.names(labels), intervals=intervals)
        console.result_tables([table])
        console.result(f"runs in {plan.folder.path}; this table again: mlrec report --study {plan.folder.path}")
    if failed:
        again = "(the same command tries again what failed once, --retry-failed what failed twice)"
        raise RunError(
            "\n".join(
                [f"{len(failed)} of {counted(len(states), 'run')} failed:", *(f"  {line}" for line in failed), again]
            )
        )


def _shown(title: str, moments: Iterator[tuple[State, ...]], terminal: console.Terminal, of: str) -> tuple[State, ...]:
    """Draw how the runs stand while they go on; without a terminal, one line for each that ends.

    Their mAP is that of the training, `of` all labels where the last table is of some.
    """
    from mlrec.reports.text import text
    from mlrec.workflows.sweep_progress import progress_table

    states: tuple[State, ...] = ()
    told: dict[str, str] = {}
    with terminal.live() as draw:
        for states in moments:
            if draw is not None:
                draw(text([progress_table(title, states)], styled=True, columns=shutil.get_terminal_size().columns))
                continue
            for state in states:
                name, news = state.point.name, _news(state, of)
                if news and told.get(name) != state.status:
                    told[name] = state.status
                    over = sum(told.get(s.point.name) in ("finished", "failed") for s in states)
                    terminal.say(f"{over}/{len(states)} {name}: {news}")
    return states


def _news(state: State, of: str) -> str:
    """What is worth a line where no table is drawn; "" for nothing."""
    if state.status == "finished":
        return "finished" if state.mAP is None else f"mAP {100 * state.mAP:.1f} %{of}"
    if state.failure is None or state.status == "running":
        return ""
    return "failed" if state.status == "failed" else f"{state.failure.error}; it is tried again"
