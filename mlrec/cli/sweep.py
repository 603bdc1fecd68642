"""`mlrec sweep`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlrec.cli import console, options
from mlrec.utils.errors import RunError, counted

if TYPE_CHECKING:
    from mlrec.sweeps.executor import SweepExecutor
    from mlrec.sweeps.progress import TrialState


@partial(options.with_config_flags, as_typed=True)
def sweep(
    flags: dict[str, Any],
    study: Annotated[
        str | None, typer.Option(help="Study: table6, table7, table8, figure5, compare or heads.", metavar="NAME")
    ] = None,
    paper_only: Annotated[
        bool,
        typer.Option("--paper-only", help="Only the runs of the paper's table or figure, with one seed [--study]."),
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Config key and its values; repeatable.", metavar="KEY=A,B")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Random seeds of each setting.", metavar="A,B,...")] = None,
    folds: Annotated[int | None, typer.Option(help="Number of folds of the training split for each setting.")] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Number of runs of a search (TPE) between the values given, instead of a grid.", min=1),
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(help="Key and values to choose from for each setting, on held-out data.", metavar="KEY=A,B"),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Name of a recipe [default: the dataset's].", metavar="NAME")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of keys for all runs.")] = None,
    out: options.Out = Path("runs"),
    name: Annotated[
        str | None, typer.Option(help="Name of the sweep's folder [default: the study, or the keys].")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Number of worker processes here [default: one per GPU, else 1].", min=1)
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Optuna database URL, or journal file [default: an SQLite file in the sweep's folder]."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and an estimate of its duration.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Runs that failed twice are started again.")
    ] = False,
    labels: options.Labels = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="95 % intervals of mAP and of its differences in the table.")
    ] = False,
    json: options.Json = False,
    full: options.Full = False,
) -> None:
    """Train a grid of settings, one run each.

    Every flag of mlrec train takes several values, as a,b,c or start:stop:step.

    The same command, started again or on another machine, trains what is missing and resumes what was interrupted.
    Finished runs are kept. A run that fails does not stop the others.

    Example: mlrec sweep --lam 0,0.1,0.2 --heads 1,2,4 --seeds 0,1,2
    """
    from mlrec.sweeps.executor import SweepExecutor
    from mlrec.sweeps.grid import check_texts
    from mlrec.sweeps.plan import plan_sweep
    from mlrec.sweeps.progress import dry_run as dry_run_table

    terminal = console.Terminal()
    set_texts = options.pairs(settings or [], "--set")
    check_texts(set_texts, "--set")
    plan = plan_sweep(
        set_texts | flags,
        study=study,
        paper_only=paper_only,
        tune=options.pairs(tune or [], "--tune"),
        seeds=None if seeds is None else options.whole_numbers(seeds, "--seeds"),
        folds=folds,
        trials=trials,
        file=config,
        recipe=recipe,
        out=out,
        name=name,
        progress=terminal,
    )
    executor = SweepExecutor(plan, jobs, storage, retry_failed, options.names(labels))
    if dry_run:
        table = dry_run_table(plan, executor.current_states(), jobs=jobs or 1)
        if json:
            console.result_json(console.tables_as_data([table])[0])
        else:
            console.result_tables([table], full=full)
        return
    run_and_show(executor, terminal, intervals=intervals, compared=study == "compare", json=json, full=full)


def run_and_show(
    executor: SweepExecutor,
    terminal: console.Terminal,
    *,
    intervals: bool = False,
    compared: bool = False,
    json: bool = False,
    full: bool = False,
) -> None:
    """Run a sweep, draw its progress, and print its tables; `compared` adds those of the study "compare"."""
    from mlrec.sweeps.progress import failures
    from mlrec.sweeps.study_tables import comparison_tables, study_report
    from mlrec.workflows.train.interrupt import Interrupted

    folder, labels = executor.plan.folder, executor.labels
    try:
        states = _shown(executor.plan.title, executor.run(), terminal, " over all labels" if labels else "")
    except Interrupted as stopped:
        terminal.say(str(stopped))
        raise typer.Exit(stopped.exit_code) from None
    if any(state.status == "finished" for state in states):
        tables = [study_report(folder, labels=labels, intervals=intervals)]
        if compared:
            tables += comparison_tables(folder, labels)
        if json:
            console.result_json({"folder": str(folder), "tables": console.tables_as_data(tables)})
        else:
            console.result_tables(tables, full=full)
            console.result_line(f"runs in {folder}; to print this table again: mlrec report --study {folder}")
    failed = failures(states)
    if failed:
        hint = "(the same command retries what failed once; --retry-failed also what failed twice)"
        heading = f"{len(failed)} of {counted(len(states), 'run')} failed:"
        raise RunError(heading, *(f"  {line}" for line in failed), hint)


def _shown(
    title: str, updates: Iterator[tuple[TrialState, ...]], terminal: console.Terminal, scored: str
) -> tuple[TrialState, ...]:
    """Draw the states while runs are training; without a terminal, print one line for each run that ends.

    The mAP is that of all labels; `scored` says so if the last table is of some.
    """
    from mlrec.reports.render.terminal import render_text
    from mlrec.sweeps.progress import progress_table

    states: tuple[TrialState, ...] = ()
    printed: dict[str, str] = {}
    with terminal.live() as draw:
        for states in updates:
            if draw is not None:
                draw(
                    render_text(
                        [progress_table(title, states)], styled=True, columns=shutil.get_terminal_size().columns
                    )
                )
                continue
            for state in states:
                name, news = state.trial.name, _news(state, scored)
                if news and printed.get(name) != state.status:
                    printed[name] = state.status
                    over = sum(printed.get(s.trial.name) in ("finished", "failed") for s in states)
                    terminal.say(f"{over}/{len(states)} {name}: {news}")
    return states


def _news(state: TrialState, scored: str) -> str:
    """The line to print if no table is drawn; "" for none."""
    if state.status == "finished":
        if state.mAP is None:
            return "finished"
        return f"mAP {100 * state.mAP:.1f} %{scored}"
    if state.status == "failed":
        return "failed"
    if state.error:
        return f"{state.error}; retrying"
    return ""
