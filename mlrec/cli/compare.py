"""`mlrec compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlrec.cli import options
from mlrec.cli.report import File, Format, Output, PerRun, emit, format_name, goes_with
from mlrec.utils.errors import UsageError, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlrec.reports.render.table import Table


def compare(
    sides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs or score files A and B; write multiple seeds as A1,A2 B1,B2. "
            "--by-size and --by-label accept any number of runs.",
            metavar="A B",
        ),
    ] = None,
    by_size: Annotated[
        bool,
        typer.Option(
            "--by-size", help="Compare AP by object size and object count, with the first run as the baseline."
        ),
    ] = False,
    by_label: Annotated[
        bool, typer.Option("--by-label", help="Compare the AP, precision, recall and F1 of each label.")
    ] = False,
    truth: Annotated[
        Path | None, typer.Option(help="Ground truth for score files: a .csv file, a manifest, or a prepared dataset.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to score, if the ground truth contains multiple splits.")
    ] = None,
    logits: options.Logits = False,
    probabilities: options.Probabilities = False,
    labels: options.Labels = None,
    conventions: Annotated[
        str | None, typer.Option(help="Scoring conventions [default: the conventions of the runs].", metavar="NAME")
    ] = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Add 95% confidence intervals for AP (only with --by-label).")
    ] = False,
    per_run: PerRun = False,
    resamples: Annotated[int, typer.Option(help="Number of bootstrap resamples.", min=100, max=1_000_000)] = 1000,
    format_: Format = None,
    out: File = None,
    json: options.Json = False,
    full: options.Full = False,
    runs_root: options.RunsRoot = Path("runs"),
) -> None:
    """Compare two models on the same images.

    Prints the differences A - B with 95% confidence intervals. The intervals are computed with a paired bootstrap over
    images, and over seeds if there are multiple seeds. With --by-size or --by-label, any number of runs can be
    compared; the default is all finished runs.

    Example: mlrec compare runs/csra-0,runs/csra-1 runs/average-0,runs/average-1
    """
    if by_size and by_label:
        raise UsageError("--by-size cannot be used with --by-label; omit one of them")
    view = ""
    if by_size:
        view = "--by-size"
    if by_label:
        view = "--by-label"
    goes_with(view, ("",), {"--truth": truth, "--split": split})
    goes_with(view, ("",), {"--logits": logits or None, "--probabilities": probabilities or None})
    goes_with(view, ("", "--by-label"), {"--conventions": conventions})
    goes_with(view, ("--by-label",), {"--intervals": intervals or None, "--per-run": per_run or None})
    name, chosen = format_name(format_, out, json), options.names(labels)
    tables: Sequence[Table]
    if by_size:
        from mlrec.workflows.report.by_size import size_report

        tables = [size_report(_runs(sides), root=runs_root, labels=chosen, resamples=resamples)]
    elif by_label:
        from mlrec.workflows.report.report import label_report

        tables = label_report(
            _runs(sides), root=runs_root, conventions=conventions, labels=chosen, each=per_run, intervals=intervals
        )
    else:
        from mlrec.workflows.report.compare import compare_runs

        ours, theirs = _two(sides)
        tables = compare_runs(
            ours,
            theirs,
            truth=truth,
            split=split,
            kind=options.score_kind(logits, probabilities),
            conventions=conventions,
            labels=chosen,
            resamples=resamples,
        )
    emit(tables, Output(name, out, full))


def _two(sides: list[str] | None) -> tuple[list[Path], list[Path]]:
    """Return the runs of each side."""
    if sides is None or len(sides) != 2:
        count = counted(len(sides or ()), "argument")
        raise UsageError(
            f"expected two arguments, A and B (each a run or a score file), but got {count}; for multiple seeds, "
            "separate the runs of each side with commas: A1,A2 B1,B2"
        )
    ours, theirs = ([Path(path) for path in options.names(side) or ()] for side in sides)
    return ours, theirs


def _runs(sides: list[str] | None) -> list[Path]:
    """Return the runs from all arguments; arguments are split at commas unless they are existing paths."""
    runs = []
    for side in sides or ():
        runs += [Path(side)] if Path(side).exists() else [Path(path) for path in options.names(side) or ()]
    return runs
