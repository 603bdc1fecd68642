"""Progress of a sweep: the states of the trials, and an estimate of the remaining time."""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlrec.metrics.summary import Metrics
from mlrec.reports.render.table import Column, Row, Table
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord, finished_runs
from mlrec.sweeps.grid import Trial
from mlrec.sweeps.plan import SweepPlan
from mlrec.sweeps.trial_queue import Attempts, is_claimed
from mlrec.sweeps.worker import log_of, record_of
from mlrec.utils.errors import MlrecError, counted
from mlrec.workflows.train.run_record import duration

ALIKE = ("backbone", "img_size", "freeze_backbone", "device")  # keys in which runs take about as long per sample
LONGEST = 36  # characters of a detail
ROWS = 15  # of the live table
TAIL = 4096  # bytes of a log that hold its last lines


Status = Literal["waiting", "running", "interrupted", "failed", "finished"]


@dataclass(frozen=True)
class TrialState:
    """Snapshot of the state of a trial.

    Attributes:
        detail: Text with the epoch and the loss of a running trial; "" for other trials.
        error: Last error, in one line, of a trial that failed or waits for a retry; "" for other trials.
        failures: Number of failures of a trial that failed or waits for a retry; 0 for other trials.
        log: File that contains the complete error, if `error` is set.
        mAP: mAP of a finished trial, as a fraction; None if the trial is not finished or its mAP is undefined.
        seconds: Duration of a finished trial in seconds, without the time needed to compute shared features; None for
            other trials.
    """

    trial: Trial
    status: Status
    detail: str = ""
    error: str = ""
    failures: int = 0
    log: Path = Path()
    mAP: float | None = None
    seconds: float | None = None


def state_of(trial: Trial, folder: Path, attempts: Attempts) -> TrialState:
    """Determine the state of a trial from its run folder and its state in the queue.

    Args:
        trial: Trial whose state is determined.
        folder: Folder of the sweep.
        attempts: State of the trial in the queue.
    """
    run, log = folder / trial.name, log_of(folder, trial.name)
    record = record_of(run)
    if record is not None and record.status == "finished":
        return TrialState(trial, "finished", mAP=_mAP(run), seconds=_seconds(record))
    if attempts.status == "running" or is_claimed(folder, trial.name):
        return TrialState(trial, "running", detail=_place(run, record))
    if attempts.failures:
        status: Status = "failed"
        if attempts.status == "waiting":
            status = "waiting"
        return TrialState(trial, status, error=attempts.error, failures=attempts.failures, log=log)
    if record is None:
        return TrialState(trial, "waiting")
    return TrialState(trial, "interrupted")


def progress_table(title: str, states: Sequence[TrialState], *, whole: bool = False) -> Table:
    """Return a table of running, failed and recently finished trials, or of all trials if `whole` is set."""
    columns = (
        Column("run", "Run", identity=True),
        Column("state", "State"),
        Column("detail", "", absent=""),
        Column("mAP", "mAP", "percent", absent=""),
        Column("seconds", "s", "seconds", absent=""),
    )
    listed = states if whole else _worth_showing(states)
    rows = tuple(Row((s.trial.words, s.status, _shortened(s.error or s.detail), s.mAP, s.seconds)) for s in listed)
    statuses = [state.status for state in states]
    note = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    return Table(title, columns, rows, (f"{counted(len(states), 'run')}: {note}",)).without_empty_columns(
        ("run", "state")
    )


def dry_run(plan: SweepPlan, states: Sequence[TrialState], *, jobs: int = 1) -> Table:
    """Return a table of all planned trials, with an estimate of the remaining time."""
    table = progress_table(plan.title, states, whole=True)
    left = sum(state.status != "finished" for state in states)
    notes = [*table.footnotes, f"folder: {plan.folder}"]
    if plan.max_trials is not None:
        runs = counted(plan.max_trials, "run")
        notes.append(f"{runs} in total; the values of {', '.join(plan.axes)} in each run depend on the earlier results")
        left += plan.max_trials - len(states)
    if plan.tuning:
        later = len(plan.settings) * len(plan.seeds) * len(plan.splits)
        notes.append(
            f"these runs select the best value of {', '.join(plan.tune)} for each setting; "
            f"{counted(later, 'run')} with the selected values will follow"
        )
        left += later
    seconds = _seconds_per_trial(plan, states)
    if seconds is None:
        notes.append("time: unknown until the first run with this backbone, image size and device has finished")
    else:
        notes.append(
            f"time: about {duration(seconds * left / jobs)} for {counted(left, 'run')} of {seconds:.0f} s, {jobs} at a "
            "time"
        )
    return Table(table.title, table.columns, table.rows, tuple(notes))


def failures(states: Iterable[TrialState]) -> list[str]:
    """Return one line for each failed trial, with its values, its error and its log file."""
    return [f"{state.trial.words}: {state.error} (log: {state.log})" for state in states if state.status == "failed"]


def _mAP(run: Path) -> float | None:  # noqa: N802 - the metric's name
    with contextlib.suppress(MlrecError):
        return Metrics.load(run / directory.METRICS).mAP
    return None


def _seconds(record: RunRecord) -> float:
    return sum(seconds for part, seconds in record.seconds.items() if part != "features")


def _place(run: Path, record: RunRecord | None) -> str:
    """Read the progress of a run from its log, and return a text such as `epoch 3/20, loss 0.1234`."""
    last = _last_step(run / directory.LOG)
    if record is None or last is None:
        return "starting"
    place, loss = f"epoch {last['epoch']}/{record.config.get('epochs')}", last.get("loss")
    if loss is None:
        return place
    return f"{place}, loss {loss:.4f}"


def _last_step(log: Path) -> Mapping[str, Any] | None:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - TAIL))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        with contextlib.suppress(json.JSONDecodeError):  # the first line of the tail is cut
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("event") == "steps":
                return entry
    return None


def _shortened(text: str) -> str:
    """Shorten a text for a table cell; complete errors are printed at the end of the sweep."""
    if len(text) <= LONGEST:
        return text
    return text[: LONGEST - 1] + "…"


def _worth_showing(states: Sequence[TrialState]) -> list[TrialState]:
    busy = [s for s in states if s.status == "running" or s.error]
    finished = [s for s in states if s.status == "finished"]
    newest = finished[max(0, len(finished) - max(0, ROWS - len(busy))) :]
    listed = {s.trial.name for s in (*busy, *newest)}
    return [state for state in states if state.trial.name in listed]


def _seconds_per_trial(plan: SweepPlan, states: Sequence[TrialState]) -> float | None:
    """Return the median time per trial in seconds.

    The median is computed over the finished trials of this sweep. If no trial is finished, the median is computed over
    similar runs in the parent folder and scaled by the number of samples and epochs.
    """
    own = [state.seconds for state in states if state.seconds is not None]
    if own:
        return statistics.median(own)
    config = plan.base.config
    similar = [
        run.record
        for run in finished_runs(plan.folder.parent)
        if all(run.record.config.get(key) == getattr(config, key) for key in ALIKE)
    ]
    rates = [rate for rate in map(_seconds_per_sample, similar) if rate]
    samples = len(plan.base.train) * config.epochs + len(plan.base.scored)
    if not rates:
        return None
    return statistics.median(rates) * samples


def _seconds_per_sample(record: RunRecord) -> float | None:
    if record.train is None or record.scored is None:
        return None
    samples = record.train.samples * int(record.config.get("epochs", 1)) + record.scored.samples
    return _seconds(record) / max(1, samples)
