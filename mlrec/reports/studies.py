"""A sweep as a table: one row a setting, means over seeds and folds, with the difference to the first row."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlrec.config import PATHS
from mlrec.errors import counted
from mlrec.metrics.bootstrap import metric_intervals, paired_difference
from mlrec.predictions import Floats
from mlrec.reports.numbers import Cell
from mlrec.reports.overview import BOOTSTRAP_NOTE
from mlrec.reports.results import Result, image_of
from mlrec.reports.settings import setting_text
from mlrec.reports.table import Column, Row, Table
from mlrec.sweeps.grid import shown

NEAR = 0.95  # of its own final mAP: when a run counts as converged
METRICS = ("CF1", "OF1")
ALWAYS = ("mAP", "seeds", "variant")


@dataclass(frozen=True)
class Measured:
    """A run of a sweep, as its table needs it.

    Attributes:
        logits, targets: (N, C), of the labels that are scored; `samples` names the rows.
        history: (epoch, mAP) of the epochs that were scored, all labels.
        losses: mean training loss of each epoch.
    """

    result: Result
    logits: Floats
    targets: Any
    samples: tuple[str, ...]
    history: Sequence[tuple[int, float]] = ()
    losses: Sequence[float] = ()


@dataclass(frozen=True)
class Setting:
    """A row: the runs of one setting over seeds and folds.

    Attributes:
        missing: how many of them are not finished.
        at_edge: tuned keys whose chosen value is the smallest or largest that was tried.
    """

    label: str
    settings: Mapping[str, Any]
    runs: Sequence[Measured] = field(repr=False)
    missing: int = 0
    at_edge: Sequence[str] = ()


def study_table(
    title: str,
    settings: Sequence[Setting],
    *,
    intervals: bool = False,
    notes: Sequence[str] = (),
    tuned: Sequence[str] = (),
) -> Table:
    """The rows of a sweep in their order, the best mAP marked.

    Args:
        title: of the table.
        settings: the rows; the first is what differences are taken to.
        intervals: 95 % intervals of mAP and of the difference, by bootstrap over images and runs.
        notes: further footnotes.
        tuned: keys whose values were chosen for each row on held-out data.
    """
    keys = list(dict.fromkeys(key for setting in settings for key in setting.settings))
    columns = (
        Column("variant", "Variant", identity=True),
        *(Column(key, {"lam": "λ", "heads": "H"}.get(key, key), "number", absent="") for key in keys),
        Column("mAP", "mAP", "percent", ranked=True),
        Column("sd", "sd", "percent", absent=""),
        Column("seeds", "n", "number"),
        Column("mAP_low", "low", "percent", block="95 % mAP", absent=""),
        Column("mAP_high", "high", "percent", block="95 % mAP", absent=""),
        Column("difference", "Δ", "points", absent=""),
        Column("difference_low", "low", "points", block="95 % Δ", absent=""),
        Column("difference_high", "high", "points", block="95 % Δ", absent=""),
        *(Column(key, key, "percent", ranked=True) for key in METRICS),
        Column("epochs", f"epochs to {NEAR:.0%}", "number", absent=""),
        Column("loss", "loss", "number", absent=""),
    )
    measured = [setting for setting in settings if setting.runs]
    rows = tuple(
        Row(tuple(_cells(setting, measured[0], intervals).get(column.key) for column in columns), _heading(setting))
        for setting in measured
    )
    table = Table(title, columns, rows, _footnotes(settings, measured, intervals, tuned, notes))
    return table.without_empty_columns(ALWAYS if any(s.label for s in settings) else ALWAYS[:2]).with_best()


def _cells(setting: Setting, first: Setting, intervals: bool) -> dict[str, Cell]:
    scores = [run.result.values["mAP"] for run in setting.runs]
    known = [score for score in scores if score is not None]
    mean = _mean(scores)
    cells: dict[str, Cell] = {
        "variant": setting.label or None,
        **{key: _cell(key, value) for key, value in setting.settings.items()},
        "mAP": mean,
        "sd": statistics.stdev(known) if len(known) == len(scores) > 1 else None,
        "seeds": len(setting.runs),
        "epochs": _rounded(_mean([_epochs_to_near(run.history) for run in setting.runs])),
        "loss": _rounded(_mean([run.losses[-1] if run.losses else None for run in setting.runs])),
        **{key: _mean([run.result.values[key] for run in setting.runs]) for key in METRICS},
    }
    base = _mean([run.result.values["mAP"] for run in first.runs])
    if setting is not first and mean is not None and base is not None:
        cells["difference"] = mean - base
    return cells | (_bounds(setting, first) if intervals else {})


def _cell(key: str, value: Any) -> Cell:
    if key in PATHS:
        return setting_text(key, value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else shown(value)


def _bounds(setting: Setting, first: Setting) -> dict[str, Cell]:
    """Intervals, where all runs were scored on the same samples: folds are not."""
    one = setting.runs[0]
    if any(run.samples != one.samples for run in (*setting.runs, *first.runs)):
        return {}
    how = {"groups": [image_of(sample) for sample in one.samples], "conventions": one.result.conventions}
    own = metric_intervals([run.logits for run in setting.runs], one.targets, **how)["mAP"]
    cells: dict[str, Cell] = {} if own is None else {"mAP_low": own.low, "mAP_high": own.high}
    if setting is not first:
        ours, theirs = ([run.logits for run in side.runs] for side in (setting, first))
        between = paired_difference(ours, theirs, one.targets, **how)
        if between is not None:
            cells |= {"difference_low": between.low, "difference_high": between.high}
    return cells


def _epochs_to_near(history: Sequence[tuple[int, float]]) -> float | None:
    """The first epoch whose mAP is at least 95 % of the last one's."""
    if len(history) < 2:
        return None
    return float(next(epoch for epoch, value in history if value >= NEAR * history[-1][1]))


def _heading(setting: Setting) -> str:
    result = setting.runs[0].result
    splits = list(dict.fromkeys(run.result.split for run in setting.runs))
    split = splits[0] if len(splits) == 1 else f"{splits[0]} … {splits[-1]}"
    samples = {run.result.samples for run in setting.runs}
    count = f"{next(iter(samples)):,}" if len(samples) == 1 else f"{min(samples):,}-{max(samples):,}"
    return (
        f"{result.dataset} {split} · {count} {'sample' if count == '1' else 'samples'} · "
        f"{counted(len(result.labels), 'label')} · "
        f"conventions {result.conventions}"
        f" · {result.trunk}, {result.resolution} px"
    )


def _footnotes(
    settings: Sequence[Setting],
    measured: Sequence[Setting],
    intervals: bool,
    tuned: Sequence[str],
    notes: Sequence[str],
) -> tuple[str, ...]:
    told = [*notes, *dict.fromkeys(note for s in measured for run in s.runs for note in run.result.notes)]
    told += dict.fromkeys(run.result.undefined for s in measured for run in s.runs if run.result.undefined)
    told.append("n: runs, over seeds and folds; numbers are their means, sd the standard deviation of mAP")
    if len(measured) > 1:
        told.append(f"Δ: mAP against the first row{', on the same images' if intervals else ''}")
    if tuned:
        told.append(f"{', '.join(tuned)}: chosen for each row on data held out from training, then trained anew on all")
        edges = [
            f"{s.label or 'a row'}: {key} = {s.settings[key]:g}" for s in measured for key in s.at_edge
        ]  # fmt: skip
        told += [f"at the edge of the values tried, better may lie beyond: {'; '.join(edges)}"] if edges else []
    elif any(setting.settings for setting in settings):
        told.append("the best row was read off the scored split itself")
    if any(len(run.history) > 1 for setting in measured for run in setting.runs):
        told.append(f"epochs to {NEAR:.0%}: of the run's own last mAP, all labels, scored after each epoch")
    if any(run.losses for setting in measured for run in setting.runs):
        told.append("loss: of training, mean of the last epoch")
    if intervals:
        told.append(BOOTSTRAP_NOTE)
    missing = sum(setting.missing for setting in settings)
    if missing:
        told.append(f"missing here, for not finished: {missing} run{'s' if missing > 1 else ''}")
    return tuple(told)


def _mean(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(numbers) else None


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.3g}")
