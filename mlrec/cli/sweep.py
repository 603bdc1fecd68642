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
from mlrec.utils.signals import Interrupted

if TYPE_CHECKING:
    from mlrec.sweeps.executor import SweepExecutor
    from mlrec.sweeps.progress import TrialState


@partial(options.with_config_flags, as_typed=True)
def sweep(
    flags: dict[str, Any],
    study: Annotated[
        str | None,
        typer.Option(help="Predefined study: table6, table7, table8, figure5, compare or heads.", metavar="NAME"),
    ] = None,
    paper_only: Annotated[
        bool,
        typer.Option(
            "--paper-only", help="With --study, train only the runs in the paper's table or figure, with one seed."
        ),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Config key and its values; the flag can be repeated.", metavar="KEY=A,B"),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Random seeds; each setting is trained once with each seed.", metavar="A,B,...")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Number of folds for cross-validation on the training split.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            help="Number of runs in a TPE search over the range of the given values, instead of a grid.", min=1
        ),
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            help="Config key and its candidate values; the best value is selected on held-out data.", metavar="KEY=A,B"
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Name of a recipe [default: the recipe for the dataset].", metavar="NAME")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML configuration file for all runs.")] = None,
    out: options.Out = Path("runs"),
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the sweep folder [default: the name of the study, or the names of the varied keys]."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Number of local worker processes [default: one per GPU, or 1 without a GPU].", min=1),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Optuna database URL or journal file [default: an SQLite file in the sweep folder]."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and the estimated duration without training.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Retry runs that have failed twice.")] = False,
    labels: options.Labels = None,
    intervals: Annotated[
        bool,
        typer.Option("--intervals", help="Add 95% confidence intervals for mAP and for the differences in the table."),
    ] = False,
    json: options.Json = False,
    full: options.Full = False,
) -> None:
    """Train one model for each setting in a grid.

    Configuration flags, such as --lam, accept multiple values, written as a,b,c or start:stop:step.

    To complete missing and interrupted runs, run the same command again, on the same machine or on a different one.
    Finished runs are not repeated. A failed run does not stop the other runs.

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
    """Run a sweep, show its progress, and print the result tables.

    If `compared` is set, the tables of the study "compare" are also printed.

    Raises:
        RunError: At least one run failed; the tables of the finished runs have been printed.
        Exit: The sweep was stopped by a signal.
    """
    from mlrec.sweeps.progress import failures
    from mlrec.sweeps.study_tables import comparison_tables, study_report

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
            console.result_line(f"runs are in {folder}; to print this table again: mlrec report --study {folder}")
    failed = failures(states)
    if failed:
        hint = (
            "(run the same command again to retry the runs that failed once; "
            "add --retry-failed to also retry the runs that failed twice)"
        )
        heading = f"{len(failed)} of {counted(len(states), 'run')} failed:"
        raise RunError(heading, *(f"  {line}" for line in failed), hint)


def _shown(
    title: str, updates: Iterator[tuple[TrialState, ...]], terminal: console.Terminal, scored: str
) -> tuple[TrialState, ...]:
    """Show the states of runs while they train; without a terminal, print one line per finished run.

    The mAP shown here is computed over all labels. If the final table uses only selected labels, the text `scored`
    states this difference.
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
    """Return the line to print about a run if there is no terminal; "" if there is nothing to print."""
    if state.status == "finished":
        if state.mAP is None:
            return "finished"
        return f"mAP {100 * state.mAP:.1f}%{scored}"
    if state.status == "failed":
        return "failed"
    if state.error:
        return f"{state.error}; retrying"
    return ""
