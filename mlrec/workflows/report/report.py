"""`mlrec report`: finished runs → tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import image_of, label_columns
from mlrec.metrics.bootstrap import metric_intervals, paired_seeds
from mlrec.metrics.significance import label_intervals
from mlrec.predictions import Floats, Predictions
from mlrec.reports.by_label import label_tables
from mlrec.reports.paper.figure5 import figure5_note, series_of, series_table
from mlrec.reports.paper.imagenet import FILE, AccuracySweep, accuracy_row
from mlrec.reports.paper.published import extra_rows
from mlrec.reports.paper.table1 import Gain, LambdaSweep, MethodSweeps, sweeps_of, table_1
from mlrec.reports.paper.tables import TABLES, belongs, paper_table
from mlrec.reports.render.table import Table
from mlrec.reports.results import Result, over_seeds, result_of, scores_and_truth
from mlrec.reports.runs_table import runs_table
from mlrec.runs import directory
from mlrec.runs.evaluations import evaluations
from mlrec.runs.record import Run, finished_runs
from mlrec.runs.sweep_file import without_tuning
from mlrec.utils.errors import PredictionsError, RunError, UsageError, printable


def runs_at(paths: Sequence[Path], root: Path = Path("runs"), *, lam_at_test: bool = False) -> list[Run]:
    """The runs named, each a run folder or a folder of them; all finished runs under `root` where none is named.

    Evaluations of imported models, and any evaluation that is named, count as runs.

    Evaluations with λ at test time count if `lam_at_test`: for Table 1.

    Runs of a sweep that only chose a value for others are left out, unless they are named themselves.

    Raises:
        RunError: no run there, or one that was named is not finished.
    """
    found: dict[Path, Run] = {}
    for path in paths or [root]:
        if (path / directory.RECORD).is_file():
            run = Run.load(path)
            if run.record.status != "finished":
                raise RunError(
                    f"{printable(path)}: {run.record.status}, not finished; resume it with mlrec train --resume"
                )
            here = [run]
        else:
            here = [*without_tuning(finished_runs(path)), *evaluations(path, lam_at_test=lam_at_test)]
        if not here:
            raise RunError(
                f"no finished run under {printable(path)}; run mlrec train, or name the folder of a run, or of an "
                "imported model that mlrec eval has scored"
            )
        found |= {run.path.resolve(): run for run in here}
    return list(found.values())


@dataclass(frozen=True)
class Report:
    """A report's table, and the runs behind it: as they lie on the disk, and as rows."""

    table: Table
    runs: list[Run]
    rows: list[Result]


def report(
    runs: Sequence[Path] = (),
    *,
    root: Path = Path("runs"),
    table: int | None = None,
    figure: int | None = None,
    extra: Path | None = None,
    conventions: str | None = None,
    labels: Sequence[str] | None = None,
    each: bool = False,
    intervals: bool = False,
) -> Report:
    """Runs as one table in the paper's form, or beside the rows of one of the paper's tables.

    Args:
        runs: run folders or folders of them; all finished runs under `root` where empty.
        root: where runs lie.
        table: 1 to 8: the paper's table; runs are scored anew in its conventions. A missing `root` is no error then.
        figure: 5: mAP against λ.
        extra: with `table`, a CSV of further rows: what a test server answered.
        conventions: score the stored predictions anew in these; None keeps each run's own numbers.
        labels: score these labels alone.
        each: a row for each run, instead of one for runs equal but for the seed.
        intervals: 95 % intervals of mAP, CF1 and OF1, by bootstrap over images (and seeds, where there are several).

    Raises:
        MlrecError: no run, or files of a run that cannot be read.
        UsageError: options that do not go together, or no such table or figure.
    """
    _check(table, figure, extra, conventions)
    chosen = _chosen(runs, root, table)
    rules = TABLES[table].conventions if table in TABLES else conventions
    results = [result_of(run, conventions=rules, labels=labels) for run in chosen]
    rows = results if each else over_seeds(results)
    bounds = {row.paths: _interval(row, chosen, labels) for row in rows} if intervals else None
    if figure is not None:
        series = series_of(rows, "lam", bounds)
        if not series:
            raise RunError("no CSRA runs that differ in λ alone; train them with mlrec sweep --lam 0,0.1,0.2")
        drawn = series_table(series, "lam", "Figure 5: mAP against λ", (figure5_note(),))
    elif table == 1:
        swept = [own for row in rows for own in lambda_rows(row)]
        files = sorted({file for folder in runs or [root] for file in _classifiers(folder)})
        drawn = table_1(swept, [accuracy_row(AccuracySweep.load(file)) for file in files])
    elif table is not None:
        drawn = paper_table(table, rows, extra_rows(extra) if extra else (), intervals=bounds)
    else:
        drawn = runs_table(rows, intervals=bounds)
    return Report(drawn, chosen, rows)


def _check(table: int | None, figure: int | None, extra: Path | None, conventions: str | None) -> None:
    if extra is not None and table is None:
        raise UsageError("--extra-rows goes with --table: rows of a test server are printed next to published ones")
    if table is not None and table != 1 and table not in TABLES:
        raise UsageError(f"--table {table}: the paper's tables are 1, {', '.join(map(str, TABLES))}")
    if table == 1 and extra is not None:
        raise UsageError("--extra-rows goes with tables of one number a row, 2 to 8")
    if table is not None and conventions is not None:
        raise UsageError("--table scores in the paper's conventions for that table; leave --conventions out")
    if figure not in (None, 5) or (figure is not None and table is not None):
        raise UsageError(f"--figure {figure}: Figure 5 is the one with numbers, and it goes without --table")


def _chosen(runs: Sequence[Path], root: Path, table: int | None) -> list[Run]:
    if table is None:
        return runs_at(runs, root)
    if table == 1:
        return _with_lambdas(runs, root)
    named = runs or ([root] if finished_runs(root) else [])
    found = runs_at(named) if named else []
    return [run for run in found if belongs(run.record, table, named=bool(runs))]


def _with_lambdas(runs: Sequence[Path], root: Path) -> list[Run]:
    """Runs, and evaluations of imported models at every λ; a folder may hold published classifiers instead."""
    holding = [
        folder
        for folder in runs or [root]
        if finished_runs(folder) or evaluations(folder, lam_at_test=True) or (runs and not _classifiers(folder))
    ]
    return runs_at(holding, lam_at_test=True) if holding else []


def _classifiers(folder: Path) -> list[Path]:
    """Where evaluations of published classifiers lie: in `folder` itself or directly below it."""
    return [file for file in (folder / FILE, *folder.glob(f"*/{FILE}")) if file.is_file()]


def label_report(
    runs: Sequence[Path] = (),
    *,
    root: Path = Path("runs"),
    conventions: str | None = None,
    labels: Sequence[str] | None = None,
    each: bool = False,
    intervals: bool = False,
) -> list[Table]:
    """AP of each label, a column a method, one table for each block of comparable runs; arguments as in `report`."""
    made = report(runs, root=root, conventions=conventions, labels=labels, each=each)
    if not intervals:
        return label_tables(made.rows)
    found = {}
    for row in made.rows:
        logits, targets, how = _stored(row, made.runs, labels)
        found[row.paths] = label_intervals(logits, targets, row.labels, **how)
    return label_tables(made.rows, found)


def _interval(row: Result, runs: Sequence[Run], labels: Sequence[str] | None) -> dict[str, tuple[float, float] | None]:
    """The bounds of a row's metrics: images are drawn, and seeds where the row stands for several."""
    logits, targets, how = _stored(row, runs, labels)
    found = metric_intervals(logits, targets, **how)
    return {name: None if interval is None else (interval.low, interval.high) for name, interval in found.items()}


def _stored(
    row: Result, runs: Sequence[Run], labels: Sequence[str] | None
) -> tuple[list[Floats], NDArray[np.int8], dict[str, Any]]:
    """The logits of each run of a row, their targets, and how they are drawn and scored."""
    own = [run for run in runs if run.path in row.paths]
    predicted = [scores_and_truth(run, labels) for run in own]
    groups = [image_of(sample) for sample in own[0].predictions().sample_ids]
    return [logits for logits, _, _ in predicted], predicted[0][1], {"groups": groups, "conventions": row.conventions}


Found = tuple[Path, Path, LambdaSweep]  # the run, the folder of the sweep, and what it holds


def lambda_rows(result: Result) -> Iterator[MethodSweeps]:
    """The sweeps of a method: those that ask the same of every seed in one row."""
    alike: dict[object, list[Found]] = {}
    for run in result.paths:
        for folder, sweep in sweeps_of(run).items():
            key = (sweep.dataset, sweep.split, sweep.samples, sweep.conventions, *sweep.labels, sweep.select_split,
                   sweep.fixed_lam, *sweep.lams, *sweep.temperatures)  # fmt: skip
            alike.setdefault(key, []).append((run, folder, sweep))
    for found in alike.values():
        runs = tuple(run for run, _, _ in found)
        names = tuple(result.names[result.paths.index(run)] for run in runs)
        gain = found[0][2].fixed_gain if len(found) == 1 else _gain(found)
        yield MethodSweeps(replace(result, paths=runs, names=names), tuple(sweep for _, _, sweep in found), gain)


def _gain(found: Sequence[Found]) -> Gain | None:
    """The fixed λ against none over several seeds, from stored predictions; None where those of λ = 0 are not there."""
    if found[0][2].head == "csra":  # its run was scored at the λ of training
        return None
    pairs = [
        (Predictions.load(folder / directory.PREDICTIONS), Predictions.load(run / directory.PREDICTIONS))
        for run, folder, _ in found
    ]
    first, sweep = pairs[0][0], found[0][2]
    if first.targets is None or any(one.digest != first.digest for pair in pairs for one in pair):
        return None
    columns = label_columns(first.labels, sweep.labels or first.labels, found[0][1], PredictionsError)
    fixed, zero = ([one.logits[:, columns] for one in side] for side in zip(*pairs, strict=True))
    groups = [image_of(sample) for sample in first.sample_ids]
    between = paired_seeds(fixed, zero, first.targets[:, columns], groups=groups, conventions=sweep.conventions)
    return None if between is None else Gain(between.value, between.low, between.high)
