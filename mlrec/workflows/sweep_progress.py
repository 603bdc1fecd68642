"""What a sweep still has to do, and about how long that takes."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from mlrec.errors import counted
from mlrec.reports.table import Column, Row, Table
from mlrec.runs.record import RunRecord, finished_runs
from mlrec.sweeps.grid import in_words
from mlrec.sweeps.states import State
from mlrec.workflows.records import duration
from mlrec.workflows.sweep import states_now
from mlrec.workflows.sweep_plan import SweepPlan

ALIKE = ("backbone", "img_size", "freeze_backbone", "device")  # keys in which runs take about as long an epoch
LONGEST = 36  # of a detail
SHOWN = 15  # rows of the live table


def progress_table(title: str, states: Sequence[State], *, whole: bool = False) -> Table:
    """How the runs of a sweep stand: those under way, what failed, and the newest of the rest."""
    columns = (
        Column("run", "Run", identity=True),
        Column("state", "State"),
        Column("detail", "", absent=""),
        Column("mAP", "mAP", "percent", absent=""),
        Column("seconds", "s", "seconds", absent=""),
    )
    kept = list(states) if whole else _worth_showing(states)
    rows = tuple(Row((_said(state), state.status, _detail(state), state.mAP, state.seconds)) for state in kept)
    counts = {status: sum(s.status == status for s in states) for status in dict.fromkeys(s.status for s in states)}
    note = ", ".join(f"{count} {status}" for status, count in counts.items())
    return Table(title, columns, rows, (f"{counted(len(states), 'run')}: {note}",)).without_empty_columns(
        ("run", "state")
    )


def dry_run(plan: SweepPlan, *, jobs: int = 1) -> Table:
    """The plan: every run and how it stands, with an estimate of what is left."""
    states = states_now(plan)
    table = progress_table(plan.title, states, whole=True)
    left = sum(state.status != "finished" for state in states)
    notes = [*table.footnotes, f"folder: {plan.folder.path}"]
    if plan.trials is not None:
        notes.append(
            f"{counted(plan.trials, 'run')} in all, with {', '.join(plan.axes)} chosen by what came of those before"
        )
        left += plan.trials - len(states)
    if plan.tuning:
        later = len(plan.cells) * len(plan.seeds) * len(plan.splits)
        notes.append(f"these choose {', '.join(plan.tune)}; then come {counted(later, 'run')} with the values chosen")
        left += later
    seconds = _seconds_a_run(plan, states)
    if seconds is None:
        notes.append("time: unknown until a first run on this backbone, size and machine is finished")
    else:
        notes.append(
            f"time: about {duration(seconds * left / jobs)} for {counted(left, 'run')} of {seconds:.0f} s, "
            f"{jobs} at once"
        )
    return Table(table.title, table.columns, table.rows, tuple(notes))


def failures(states: Iterable[State]) -> list[str]:
    """One line for each run that failed: what it was, why, and where its log is."""
    return [f"{_said(state)}: {state.failure.error} (log: {state.failure.log})" for state in states if state.failure]


def _said(state: State) -> str:
    point = state.point
    words = " · ".join(part for part in (point.label, in_words(point.settings)) if part)
    return f"{words} (tuning)" if point.stage == "tune" else words or point.name


def _detail(state: State) -> str:
    """Where a run is, or the beginning of its error: the whole of it is told at the end."""
    told = state.failure.error if state.failure else state.detail
    return told if len(told) <= LONGEST else told[: LONGEST - 1] + "…"


def _worth_showing(states: Sequence[State]) -> list[State]:
    busy = [s for s in states if s.status == "running" or s.failure]
    quiet = [s for s in states if s.status == "finished"][-max(0, SHOWN - len(busy)) :]
    shown = {s.point.name for s in (*busy, *quiet)}
    return [state for state in states if state.point.name in shown]


def _seconds_a_run(plan: SweepPlan, states: Sequence[State]) -> float | None:
    """Of runs of this sweep, else of runs beside it that are like them, by samples and epochs."""
    own = [state.seconds for state in states if state.seconds is not None]
    if own:
        return statistics.median(own)
    work = len(plan.base.train) * plan.base.config.epochs + len(plan.base.scored)
    wanted = {key: getattr(plan.base.config, key) for key in ALIKE}
    rates = [
        rate
        for run in finished_runs(plan.folder.path.parent)
        if wanted == {key: run.record.config.get(key) for key in ALIKE} and (rate := _rate(run.record))
    ]
    return statistics.median(rates) * work if rates else None


def _rate(record: RunRecord) -> float | None:
    """Seconds a sample that was trained on or scored."""
    if record.train is None or record.scored is None:
        return None
    done = record.train.samples * int(record.config.get("epochs", 1)) + record.scored.samples
    return sum(spent for part, spent in record.seconds.items() if part != "features") / max(1, done)
