"""Tables of sweep results: one row per setting, with means over seeds and folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlrec.config import PATHS
from mlrec.datasets.manifest import image_of
from mlrec.metrics.bootstrap import Bootstrap
from mlrec.predictions import Floats
from mlrec.reports.render.table import Cell, Column, Row, Table
from mlrec.reports.results import Result, deviation_of, mean_of, result_of, scores_and_truth
from mlrec.reports.runs_table import BOOTSTRAP_NOTE
from mlrec.reports.settings import setting_text
from mlrec.run_folders import directory
from mlrec.run_folders.head_costs import HeadCosts
from mlrec.run_folders.record import Run
from mlrec.run_folders.sweep_file import Entry, SweepFile, finished_run
from mlrec.sweeps.grid import shown
from mlrec.sweeps.studies import CSRA, STEPS
from mlrec.utils.errors import RunError, counted
from mlrec.utils.progress import NOTHING, logged_from
from mlrec.workflows.report.compare import compare_runs

NEAR = 0.95  # of its own final mAP: a run counts as converged
METRICS = ("CF1", "OF1")
ALWAYS = ("mAP", "seeds", "variant")


@dataclass(frozen=True)
class TrialResult:
    """Metrics, logits and history of a finished trial.

    Attributes:
        result: Metrics of the trial.
        logits: (N, C) array of the logits of the scored labels.
        targets: (N, C) array of the targets of the scored labels.
        samples: Ids of the N samples.
        history: Pairs of epoch number and mAP over all labels on the scored split, one pair for each evaluated epoch
            with a defined mAP.
        losses: Mean training loss of each epoch.
        head_parameters: Number of parameters of the head; None if the run record does not contain this number.
    """

    result: Result
    logits: Floats
    targets: Any
    samples: tuple[str, ...]
    history: Sequence[tuple[int, float]] = ()
    losses: Sequence[float] = ()
    head_parameters: int | None = None


@dataclass(frozen=True)
class SettingResult:
    """Finished trials of one setting, which form one row of a table.

    Attributes:
        label: Label of the setting.
        values: Values of the setting by configuration key.
        trials: Results of the finished trials, one per seed and fold.
        missing: Number of unfinished trials.
        at_edge: Tuned keys with a number as value for which the smallest or the largest of more than two tried numbers
            was chosen.
    """

    label: str
    values: Mapping[str, Any]
    trials: Sequence[TrialResult] = field(repr=False)
    missing: int = 0
    at_edge: Sequence[str] = ()


def study_report(
    folder: Path | str,
    *,
    labels: Sequence[str] | None = None,
    conventions: str | None = None,
    intervals: bool = False,
) -> Table:
    """Return the table of a sweep, computed from the run folders.

    Args:
        folder: Folder of the sweep.
        labels: Labels to score; by default, all labels.
        conventions: Conventions for scoring the stored predictions; by default, those of the runs.
        intervals: Whether to add 95% confidence intervals for mAP and mAP differences.

    Raises:
        RunError: The folder contains no sweep, or no finished run.
    """
    folder = Path(folder)
    sweep = SweepFile.load(folder)
    edges = {key: _edges(sweep, key) for key in sweep.tuned}
    rows = [_setting_result(folder, entries, labels, conventions, edges) for entries in sweep.settings()]
    if not any(row.trials for row in rows):
        raise RunError(f"{folder}: no run of this sweep is finished; run the same mlrec sweep command again")
    notes, costs = list(sweep.notes), HeadCosts.load(folder)
    if costs is None and _heads_differ(rows):
        notes.append(f"to measure the FLOPs and the step times of the heads, run mlrec bench head {folder}")
    return study_table(sweep.title, rows, intervals=intervals, notes=notes, tuned=sweep.tuned, costs=costs)


def comparison_tables(folder: Path | str, labels: Sequence[str] | None = None) -> list[Table]:
    """Compare CSRA with each of the other rows of the study "compare", with paired confidence intervals.

    Args:
        folder: Folder of the sweep.
        labels: Labels to score; by default, all labels.

    Returns:
        One table for each row that has finished runs. The list is empty if CSRA has no finished run, or if the sweep
        has additional axes or folds.
    """
    folder = Path(folder)
    groups = SweepFile.load(folder).settings()
    by_label = {entries[0].label: entries for entries in groups}
    if len(by_label) < len(groups) or any("fold" in entry.settings for entries in groups for entry in entries):
        return []  # with further axes or folds, the runs of a label are not repetitions of one setting
    finished = {
        label: [folder / entry.name for entry in entries if finished_run(folder / entry.name) is not None]
        for label, entries in by_label.items()
    }
    tables = []
    for label in STEPS:
        if finished.get(label) and finished.get(CSRA):
            with logged_from(NOTHING):
                table = compare_runs(finished[CSRA], finished[label], labels=labels)[0]
            tables.append(replace(table, title=f"A = {CSRA}, B = {label}: {table.title}"))
    return tables


def study_table(
    title: str,
    settings: Sequence[SettingResult],
    *,
    intervals: bool = False,
    notes: Sequence[str] = (),
    tuned: Sequence[str] = (),
    costs: HeadCosts | None = None,
) -> Table:
    """Return a table with one row per setting of a sweep, in which the best values are marked.

    Args:
        title: Title of the table.
        settings: Settings of the sweep. Settings without finished trials have no row. Differences are relative to the
            first row.
        intervals: Whether to add 95% confidence intervals for mAP and mAP differences (bootstrap over images and
            runs).
        notes: Additional footnotes.
        tuned: Keys whose values were chosen separately for each row on held-out data.
        costs: Measured costs of the heads: parameter counts, FLOPs and step times.
    """
    columns = _columns(settings)
    finished = [setting for setting in settings if setting.trials]
    bounds = _bounds(finished) if intervals else [{}] * len(finished)
    show_costs = _heads_differ(finished)
    rows = []
    for setting, ends in zip(finished, bounds, strict=True):
        cells = _cells(setting, finished[0]) | ends
        if show_costs:
            cells |= _cost_cells(setting, costs)
        rows.append(Row(tuple(cells.get(column.key) for column in columns), _heading(setting)))
    footnotes = [
        *_result_notes(finished, notes),
        *_comparison_notes(finished, intervals, tuned),
        *_column_notes(finished, intervals),
    ]
    if show_costs and costs is not None:
        footnotes.append(_cost_note(costs))
    missing = sum(setting.missing for setting in settings)
    if missing:
        footnotes.append(f"omitted: {counted(missing, 'unfinished run')}")
    keep = list(ALWAYS)
    if not any(setting.label for setting in settings):
        keep.remove("variant")
    return Table(title, columns, tuple(rows), tuple(footnotes)).without_empty_columns(keep).with_best()


def _columns(settings: Sequence[SettingResult]) -> tuple[Column, ...]:
    keys = list(dict.fromkeys(key for setting in settings for key in setting.values))
    return (
        Column("variant", "Variant", identity=True),
        *(Column(key, {"lam": "λ", "heads": "H"}.get(key, key), "number", absent="") for key in keys),
        Column("mAP", "mAP", "percent", ranked=True),
        Column("sd", "sd", "percent", absent=""),
        Column("seeds", "n", "number"),
        Column("mAP_low", "low", "percent", block="95% mAP", absent=""),
        Column("mAP_high", "high", "percent", block="95% mAP", absent=""),
        Column("difference", "Δ", "points", absent=""),
        Column("difference_low", "low", "points", block="95% Δ", absent=""),
        Column("difference_high", "high", "points", block="95% Δ", absent=""),
        *(Column(key, key, "percent", ranked=True) for key in METRICS),
        Column("epochs_to_near", f"epochs to {NEAR:.0%}", "number", absent=""),
        Column("training_loss", "train loss", "number", absent=""),
        Column("head_parameters", "parameters", "count", block="head", absent=""),
        Column("head_mflops", "MFLOPs", "mean", block="head", absent=""),
        Column("ms_per_image", "ms", "mean", block="per image", absent=""),
        Column("time_ratio", "ratio", "mean", block="per image", absent=""),
    )


def _cells(setting: SettingResult, first: SettingResult) -> dict[str, Cell]:
    """Return the cells of a row, except the confidence intervals."""
    mean = _mean_metric(setting, "mAP")
    cells: dict[str, Cell] = {
        "variant": setting.label or None,
        **{key: _cell(key, value) for key, value in setting.values.items()},
        "mAP": mean,
        "sd": deviation_of([trial.result.values["mAP"] for trial in setting.trials]),
        "seeds": len(setting.trials),
        "epochs_to_near": _rounded(mean_of([_epochs_to_near(trial.history) for trial in setting.trials])),
        "training_loss": _rounded(mean_of([_last_loss(trial) for trial in setting.trials])),
        **{key: _mean_metric(setting, key) for key in METRICS},
    }
    base = _mean_metric(first, "mAP")
    if setting is not first and mean is not None and base is not None:
        cells["difference"] = mean - base
    return cells


def _mean_metric(setting: SettingResult, key: str) -> float | None:
    return mean_of([trial.result.values[key] for trial in setting.trials])


def _last_loss(trial: TrialResult) -> float | None:
    if not trial.losses:
        return None
    return trial.losses[-1]


def _cell(key: str, value: Any) -> Cell:
    if key in PATHS:
        return setting_text(key, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return shown(value)
    return value


def _bounds(finished: Sequence[SettingResult]) -> list[dict[str, Cell]]:
    """Return the confidence intervals for each row that is scored on the same samples as the first row."""
    first = finished[0]
    bootstrap, base, bounds = _bootstrap(first.trials[0]), None, []
    for setting in finished:
        cells: dict[str, Cell] = {}
        bounds.append(cells)
        one = setting.trials[0]
        if any(trial.samples != one.samples for trial in (*setting.trials, *first.trials)):
            continue
        estimate = bootstrap.estimate([trial.logits for trial in setting.trials], 0)
        interval = estimate.metric("mAP")
        if interval is not None:
            cells |= {"mAP_low": interval.low, "mAP_high": interval.high}
        if setting is first:
            continue
        if base is None:  # drawn once for all rows: resampling takes nearly all the time of this table
            base = bootstrap.estimate([trial.logits for trial in first.trials], 1)
        difference = estimate.minus(base).metric("mAP")
        if difference is not None:
            cells |= {"difference_low": difference.low, "difference_high": difference.high}
    return bounds


def _bootstrap(trial: TrialResult) -> Bootstrap:
    groups = [image_of(sample) for sample in trial.samples]
    return Bootstrap(trial.targets, groups=groups, conventions=trial.result.conventions)


def _heads_differ(settings: Sequence[SettingResult]) -> bool:
    """Return whether the number of head parameters differs between rows."""
    return len({trial.head_parameters for setting in settings for trial in setting.trials} - {None}) > 1


def _cost_cells(setting: SettingResult, costs: HeadCosts | None) -> dict[str, Cell]:
    """Return the head's number of parameters and, if measured, its FLOPs and time per image."""
    cells: dict[str, Cell] = {"head_parameters": setting.trials[0].head_parameters}
    if costs is None:
        return cells
    runs = {path.name for trial in setting.trials for path in trial.result.paths}
    for cost in costs.heads:
        if cost.run in runs:
            cells |= {"head_mflops": cost.flops / 1e6, "ms_per_image": cost.forward_ms / costs.batch_size}
            if cost.forward_ratio is not None:
                cells["time_ratio"] = cost.forward_ratio[0]
    return cells


def _cost_note(costs: HeadCosts) -> str:
    where = costs.environment
    return (
        "MFLOPs: head only, for one image; a multiplication and an addition count as two FLOPs. The backbone has "
        f"{costs.backbone_flops / 1e6:,.0f} MFLOPs and {costs.backbone_parameters:,} parameters. ms: evaluation of the "
        f"whole model without image loading ({costs.img_size} px, batches of {costs.batch_size}, "
        f"{where.get('gpu', where['device'])} {where['precision']}, {counted(where['threads'], 'thread')}), median of "
        f"{counted(costs.steps, 'step')} per row, with the rows measured alternately. ratio: relative to the first row"
    )


def _epochs_to_near(history: Sequence[tuple[int, float]]) -> float | None:
    """Return the first epoch whose mAP is at least 95% of the mAP of the last epoch."""
    if len(history) < 2:
        return None
    return float(next(epoch for epoch, value in history if value >= NEAR * history[-1][1]))


def _heading(setting: SettingResult) -> str:
    """Return the group heading of a row, which states its data, backbone and resolution."""
    result = setting.trials[0].result
    splits = list(dict.fromkeys(trial.result.split for trial in setting.trials))
    split = splits[0]
    if len(splits) > 1:
        split += f" … {splits[-1]}"
    sizes = {trial.result.samples for trial in setting.trials}
    samples = counted(max(sizes), "sample")
    if len(sizes) > 1:
        samples = f"{min(sizes):,}-{samples}"
    return (
        f"{result.dataset} {split} · {samples} · {counted(len(result.labels), 'label')} · "
        f"conventions {result.conventions} · {result.backbone}, {result.resolution} px"
    )


def _result_notes(finished: Sequence[SettingResult], notes: Sequence[str]) -> list[str]:
    """Return the footnotes of the study and of its runs."""
    results = [trial.result for setting in finished for trial in setting.trials]
    lines = [*notes, *dict.fromkeys(note for result in results for note in result.notes)]
    lines += dict.fromkeys(result.undefined for result in results if result.undefined)
    return lines


def _comparison_notes(finished: Sequence[SettingResult], intervals: bool, tuned: Sequence[str]) -> list[str]:
    """Return the footnotes that explain the means, the comparisons, and how tuned values were chosen."""
    lines = ["n: number of runs over seeds and folds; metrics are means, and sd is the standard deviation of mAP"]
    if len(finished) > 1:
        line = "Δ: mAP minus that of the first row"
        if intervals:
            line += ", on the same images"
        lines.append(line)
    if tuned:
        lines.append(
            f"{', '.join(tuned)}: chosen for each row on held-out data; the row was then trained again on all data"
        )
        edges = [f"{s.label or 'a row'}: {key} = {s.values[key]:g}" for s in finished for key in s.at_edge]
        if edges:
            lines.append(f"at the edge of the tried values; better values may be beyond the edge: {'; '.join(edges)}")
    elif any(setting.values for setting in finished):
        lines.append("the best row was chosen on the scored split itself")
    return lines


def _column_notes(finished: Sequence[SettingResult], intervals: bool) -> list[str]:
    """Return the footnotes that explain the columns."""
    trials = [trial for setting in finished for trial in setting.trials]
    lines = []
    if any(len(trial.history) > 1 for trial in trials):
        lines.append(
            f"epochs to {NEAR:.0%}: first epoch whose mAP is at least {NEAR:.0%} of the run's last mAP, over all labels"
        )
    if any(trial.losses for trial in trials):
        lines.append("train loss: mean over the last epoch")
    if intervals:
        lines.append(BOOTSTRAP_NOTE)
    return lines


def _edges(sweep: SweepFile, key: str) -> tuple[Any, ...]:
    """Return the smallest and the largest value tried for a tuned key, if more than two were tried."""
    tried = {entry.settings[key] for entry in sweep.runs if entry.stage == "tune" and key in entry.settings}
    numbers = {value for value in tried if isinstance(value, int | float) and not isinstance(value, bool)}
    return (min(numbers), max(numbers)) if len(numbers) > 2 else ()


def _setting_result(
    folder: Path,
    entries: Sequence[Entry],
    labels: Sequence[str] | None,
    conventions: str | None,
    edges: Mapping[str, tuple[Any, ...]],
) -> SettingResult:
    runs = [finished_run(folder / entry.name) for entry in entries]
    trials = [_trial_result(run, labels, conventions) for run in runs if run is not None]
    values = entries[0].values
    at_edge = [key for key, extremes in edges.items() if values.get(key) in extremes]
    return SettingResult(entries[0].label, values, trials, len(entries) - len(trials), at_edge)


def _trial_result(run: Run, labels: Sequence[str] | None, conventions: str | None) -> TrialResult:
    logits, targets, _ = scores_and_truth(run, labels)
    entries = directory.log_entries(run.path)
    result = result_of(run, conventions=conventions, labels=labels)
    history = {e["epoch"]: e["mAP"] for e in entries if e["event"] == "scored" and e["split"] == result.split}
    losses = {e["epoch"]: e["loss"] for e in entries if e["event"] == "epoch"}
    return TrialResult(
        result=result,
        logits=logits,
        targets=targets,
        samples=tuple(run.predictions().sample_ids),
        history=sorted((epoch, mAP) for epoch, mAP in history.items() if mAP is not None),
        losses=[losses[epoch] for epoch in sorted(losses)],
        head_parameters=run.record.model.get("head_parameters"),
    )


def _rounded(number: float | None) -> float | None:
    """Round a number to three significant digits; None is returned unchanged."""
    if number is None:
        return None
    return float(f"{number:.3g}")
