"""`mlrec report`: tables for finished runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import image_of
from mlrec.metrics.bootstrap import metric_intervals, paired_seeds
from mlrec.metrics.label_significance import label_intervals
from mlrec.predictions import Floats, Predictions
from mlrec.reports.by_label import label_tables
from mlrec.reports.paper.figure5 import CurvePanel, Series, figure5_note, figure5_panels, series_of, series_table
from mlrec.reports.paper.imagenet import FILE, AccuracySweep, accuracy_row
from mlrec.reports.paper.layout import paper_layout, table1_layout
from mlrec.reports.paper.published import extra_rows
from mlrec.reports.paper.table1 import Gain, LambdaSweep, MethodSweeps, sweeps_of, table_1
from mlrec.reports.paper.tables import TABLES, belongs, paper_table
from mlrec.reports.render.table import Table
from mlrec.reports.results import Result, over_seeds, result_of, scores_and_truth
from mlrec.reports.runs_table import Intervals, runs_table
from mlrec.run_folders import directory
from mlrec.run_folders.evaluations import evaluations
from mlrec.run_folders.record import Run, finished_runs
from mlrec.run_folders.sweep_file import without_tuning
from mlrec.utils.errors import PredictionsError, RunError, UsageError
from mlrec.utils.names import label_columns


def runs_at(paths: Sequence[Path], root: Path = Path("runs"), *, lam_at_test: bool = False) -> list[Run]:
    """Return the runs listed by the user, or all finished runs under `root`.

    Evaluations of imported models, and evaluations that are listed explicitly, are treated as runs. Sweep runs that
    were used only to choose a value are skipped unless they are listed.

    Args:
        paths: Run folders or folders of runs.
        root: Folder of runs, used if `paths` is empty.
        lam_at_test: Whether to include evaluations in which λ was applied only at test time, for Table 1.

    Raises:
        RunError: A folder contains no run, or a listed run is not finished.
    """
    runs: dict[Path, Run] = {}
    for path in paths or [root]:
        if (path / directory.RECORD).is_file():
            run = Run.load(path)
            if run.record.status != "finished":
                raise RunError(
                    f"{path}: the run is not finished (status: {run.record.status}); resume the run with mlrec train "
                    "--resume"
                )
            below = [run]
        else:
            below = [*without_tuning(finished_runs(path)), *evaluations(path, lam_at_test=lam_at_test)]
        if not below:
            raise RunError(
                f"no finished run under {path}; run mlrec train, or choose the folder of a run or of an imported model "
                "scored with mlrec eval"
            )
        runs |= {run.path.resolve(): run for run in below}
    return list(runs.values())


@dataclass(frozen=True)
class Report:
    """Table and curves of a report on finished runs.

    Attributes:
        table: Table of the report.
        runs: Runs in the table.
        rows: Results of the runs: one per method or, with `each`, one per run.
        series: Curves for Figure 5; empty unless this figure was requested.
    """

    table: Table
    runs: list[Run]
    rows: list[Result]
    series: Sequence[Series] = ()


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
    layout: str | None = None,
) -> Report:
    """Return a table of finished runs, or a table from the paper with additional rows for these runs.

    Args:
        runs: Run folders or folders of runs; by default all finished runs under `root`.
        root: Folder of runs, which may be missing if `table` is set.
        table: Number of a table in the paper, 1 to 8. For tables 2 to 8, runs are scored under the conventions of the
            table.
        figure: Number of a figure in the paper; 5 shows mAP against λ.
        extra: CSV with additional rows for `table`, such as results from an evaluation server.
        conventions: Conventions for scoring the stored predictions; by default the stored metrics are used.
        labels: Labels to score; by default all.
        each: Whether to show one row per run. By default, runs that differ only in the seed share one row.
        intervals: Whether to add 95% confidence intervals for mAP, CF1 and OF1, by bootstrap over images (and over
            seeds if there are multiple seeds).
        layout: Layout of `table`: "paper" for the paper's layout, or "full" (default) for one row per method with all
            columns.

    Raises:
        MlrecError: There is no run, or files of a run cannot be read.
        UsageError: The options cannot be used together, or the table or figure does not exist.
    """
    _check_options(table, figure, extra, conventions)
    _check_layout(table, layout, intervals)
    selected = _select_runs(runs, root, table)
    if table in TABLES:
        conventions = TABLES[table].conventions
    rows = [result_of(run, conventions=conventions, labels=labels) for run in selected]
    if not each:
        rows = over_seeds(rows)
    bounds = _intervals(rows, selected, labels) if intervals else None
    series: Sequence[Series] = ()
    if figure is not None:
        series = series_of(rows, "lam", bounds)
        shown = _figure5_table(series)
    elif table == 1:
        sweeps = [sweep for row in rows for sweep in lambda_rows(row)]
        files = sorted({file for folder in runs or [root] for file in _classifiers(folder)})
        shown = table_1(sweeps, [accuracy_row(AccuracySweep.load(file)) for file in files])
        if layout == "paper":
            shown = table1_layout(shown)
    elif table is not None and layout == "paper":
        shown = paper_layout(table, rows, extra_rows(extra))
    elif table is not None:
        shown = paper_table(table, rows, extra_rows(extra), intervals=bounds)
    else:
        shown = runs_table(rows, intervals=bounds)
    return Report(shown, selected, rows, series)


def paper_report(runs: Sequence[Path] = (), *, root: Path = Path("runs")) -> tuple[list[Table], list[CurvePanel]]:
    """Return all tables of the paper with additional rows for the runs, and the panels of Figure 5.

    Args:
        runs: Run folders or folders of runs; by default all finished runs under `root`.
        root: Folder of runs, used if `runs` is empty. If it contains no finished run, the tables contain only the rows
            of the paper.
    """
    tables = [report(runs, root=root, table=number, layout="paper").table for number in (1, *TABLES)]
    own: list[Run] = []
    if runs or finished_runs(root):
        own = runs_at(runs, root)
    series = series_of(over_seeds(result_of(run) for run in own), "lam")
    return tables, figure5_panels(series)


def _figure5_table(series: Sequence[Series]) -> Table:
    if not series:
        raise RunError("there are no CSRA runs that differ only in λ; train such runs with mlrec sweep --lam 0,0.1,0.2")
    return series_table(series, "lam", "Figure 5: mAP against λ", (figure5_note(),))


def _check_layout(table: int | None, layout: str | None, intervals: bool) -> None:
    if layout not in (None, "full", "paper"):
        raise UsageError(f"--layout {layout}: unknown layout; use full or paper")
    if layout is not None and table is None:
        raise UsageError(
            "--layout requires --table, because other tables have only one layout; add --table or omit --layout"
        )
    if layout == "paper" and intervals:
        raise UsageError(
            "--intervals cannot be used with --layout paper, which has no interval columns; use --layout full"
        )


def _check_options(table: int | None, figure: int | None, extra: Path | None, conventions: str | None) -> None:
    if extra is not None and table is None:
        raise UsageError("--extra-rows requires --table, which prints the published rows; add --table")
    if table is not None and table != 1 and table not in TABLES:
        raise UsageError(
            f"--table {table}: the paper has no such table; choose one of 1, {', '.join(map(str, TABLES))}"
        )
    if table == 1 and extra is not None:
        raise UsageError("--extra-rows cannot be used with --table 1; use it with tables 2 to 8")
    if table is not None and conventions is not None:
        raise UsageError("--table always uses the paper's conventions for that table; omit --conventions")
    if figure is not None and figure != 5:
        raise UsageError(f"--figure {figure}: only Figure 5 is available; use --figure 5")
    if figure is not None and table is not None:
        raise UsageError(f"--figure {figure} cannot be used with --table; omit one of the two options")


def _select_runs(runs: Sequence[Path], root: Path, table: int | None) -> list[Run]:
    if table is None:
        return runs_at(runs, root)
    if table == 1:
        return _runs_of_table1(runs, root)
    if not runs and not finished_runs(root):
        return []
    return [run for run in runs_at(runs, root) if belongs(run.record, table, named=bool(runs))]


def _runs_of_table1(runs: Sequence[Path], root: Path) -> list[Run]:
    """Return runs and evaluations at each λ; folders that contain only published classifiers are skipped."""
    folders = [
        folder
        for folder in runs or [root]
        if finished_runs(folder) or evaluations(folder, lam_at_test=True) or (runs and not _classifiers(folder))
    ]
    if not folders:
        return []
    return runs_at(folders, lam_at_test=True)


def _classifiers(folder: Path) -> list[Path]:
    """Return the evaluations of published classifiers in `folder` and directly below it."""
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
    """Return tables of AP by label, one for each block of comparable runs; for the arguments, see `report`.

    If the training split of a block is known and has medium or rare labels, a table of mAP by label frequency follows.
    """
    report_of_runs = report(runs, root=root, conventions=conventions, labels=labels, each=each)
    if not intervals:
        return label_tables(report_of_runs.rows)
    bounds = {}
    for row in report_of_runs.rows:
        logits, targets, options = _stored(row, report_of_runs.runs, labels)
        bounds[row.paths] = label_intervals(logits, targets, row.labels, **options)
    return label_tables(report_of_runs.rows, bounds)


def _intervals(rows: Sequence[Result], runs: Sequence[Run], labels: Sequence[str] | None) -> Intervals:
    return {row.paths: _interval(row, runs, labels) for row in rows}


def _interval(row: Result, runs: Sequence[Run], labels: Sequence[str] | None) -> dict[str, tuple[float, float] | None]:
    """Return the interval bounds for the metrics of a row, by bootstrap.

    The bootstrap resamples images (and seeds, if multiple).
    """
    logits, targets, options = _stored(row, runs, labels)
    bounds: dict[str, tuple[float, float] | None] = {}
    for name, interval in metric_intervals(logits, targets, **options).items():
        bounds[name] = None if interval is None else (interval.low, interval.high)
    return bounds


def _stored(
    row: Result, runs: Sequence[Run], labels: Sequence[str] | None
) -> tuple[list[Floats], NDArray[np.int8], dict[str, Any]]:
    """Return the logits of each run in a row, the targets, and the bootstrap options."""
    own = [run for run in runs if run.path in row.paths]
    predicted = [scores_and_truth(run, labels) for run in own]
    groups = [image_of(sample) for sample in own[0].predictions().sample_ids]
    return [logits for logits, _, _ in predicted], predicted[0][1], {"groups": groups, "conventions": row.conventions}


StoredSweep = tuple[Path, Path, LambdaSweep]  # run folder, folder of the sweep, and its content


def lambda_rows(result: Result) -> Iterator[MethodSweeps]:
    """Return the λ sweeps for a method; sweeps with the same settings over multiple seeds are combined.

    Args:
        result: Result of the method over its seeds.
    """
    alike: dict[object, list[StoredSweep]] = {}
    for run in result.paths:
        for folder, sweep in sweeps_of(run).items():
            scored = (sweep.dataset, sweep.split, sweep.samples, sweep.conventions, *sweep.labels, sweep.select_split)
            key = (*scored, sweep.fixed_lam, *sweep.lams, *sweep.temperatures)
            alike.setdefault(key, []).append((run, folder, sweep))
    for stored in alike.values():
        runs = tuple(run for run, _, _ in stored)
        names = tuple(result.names[result.paths.index(run)] for run in runs)
        yield MethodSweeps(
            replace(result, paths=runs, names=names), tuple(sweep for _, _, sweep in stored), _fixed_gain(stored)
        )


def _fixed_gain(stored: Sequence[StoredSweep]) -> Gain | None:
    """Return the increase of the metric from λ = 0 to the fixed λ.

    For multiple seeds, the gain is computed from the stored predictions.
    """
    _, first_folder, sweep = stored[0]
    if len(stored) == 1:
        return sweep.fixed_gain
    if sweep.head == "csra":  # the predictions of a CSRA run have the λ of training, so those of λ = 0 are missing
        return None
    fixed = [Predictions.load(folder / directory.PREDICTIONS) for _, folder, _ in stored]
    zero = [Predictions.load(run / directory.PREDICTIONS) for run, _, _ in stored]
    first = fixed[0]
    if first.targets is None or any(predictions.digest != first.digest for predictions in (*fixed, *zero)):
        return None
    columns = label_columns(first.labels, sweep.labels or first.labels, first_folder, PredictionsError)
    interval = paired_seeds(
        [predictions.logits[:, columns] for predictions in fixed],
        [predictions.logits[:, columns] for predictions in zero],
        first.targets[:, columns],
        groups=[image_of(sample) for sample in first.sample_ids],
        conventions=sweep.conventions,
    )
    if interval is None:
        return None
    return Gain(interval.value, interval.low, interval.high)
