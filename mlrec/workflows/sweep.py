"""`mlrec sweep`: a plan of runs → run folders, by as many workers as there are."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrec.errors import RunError, UsageError, printable
from mlrec.reports.results import result_of
from mlrec.runs.record import Run
from mlrec.sweeps.grid import Point, combinations
from mlrec.sweeps.queue import JOURNAL
from mlrec.sweeps.search import proposals
from mlrec.sweeps.states import State, record_of, state_of
from mlrec.sweeps.study_file import FILE, StudyFile, entry_of
from mlrec.workflows.interrupt import Interrupted, Stop, deferred_signals
from mlrec.workflows.sweep_crew import watch
from mlrec.workflows.sweep_plan import SweepPlan
from mlrec.workflows.sweep_worker import Work

States = tuple[State, ...]


@dataclass(frozen=True)
class _Shop:
    """With what a plan is carried out; `earlier`: how often points had failed before."""

    plan: SweepPlan
    jobs: int
    storage: str
    labels: Sequence[str] | None
    stop: Stop
    earlier: Mapping[str, int]

    def train(self, points: Sequence[Point], before: Sequence[Point] = ()) -> Iterator[States]:
        """Have points trained; `before` are those of an earlier stage."""
        plan = self.plan
        entries = [entry_of(point) for point in (*before, *points)]
        StudyFile(plan.title, entries, list(plan.notes), list(plan.tune)).save(plan.folder.path)
        task = Work(
            {point.name: point for point in points}, plan.folder.path, self.storage, plan.folder.path.name, plan.file,
            plan.recipe, plan.pool, tuple(sys.argv),
        )  # fmt: skip
        yield from watch(task, points, self.jobs, self.stop, self.earlier)
        if self.stop.number is not None:
            told = f"stopped; the same command goes on with {printable(plan.folder.path)}"
            raise Interrupted(told, self.stop.number)


def run_sweep(
    plan: SweepPlan,
    *,
    jobs: int = 1,
    storage: str | None = None,
    retry_failed: bool = False,
    labels: Sequence[str] | None = None,
) -> Iterator[States]:
    """Train what is missing; yields how all points of the stage stand, about twice a second, the last time at the end.

    Args:
        plan: what to train.
        jobs: worker processes here; the same command elsewhere adds to them.
        storage: of Optuna: a journal file, or a database's URL; left out, a file in the sweep's folder.
        retry_failed: try once more what failed too often.
        labels: choose tuned or searched values by the mAP of these labels alone.

    Raises:
        Interrupted: SIGINT or SIGTERM; what was under way is saved, and the same command goes on.
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: at least 1")
    with deferred_signals() as stop:
        if retry_failed:
            for name in plan.folder.failures():
                plan.folder.forget_failure(name)
        journal = storage or str(plan.folder.path / JOURNAL)
        shop = _Shop(plan, jobs, journal, labels, stop, plan.folder.failures())
        if plan.trials is not None:
            yield from _search(shop)
            return
        if plan.tuning:
            yield from shop.train(plan.tuning)
        yield from shop.train(plan.final(_chosen(shop) if plan.tuning else {}), plan.tuning)


def states_now(plan: SweepPlan) -> list[State]:
    """How the points that are known beforehand stand: of tuned ones, the tuning alone; of a search, those it made."""
    points = _searched(plan) if plan.trials is not None else plan.tuning or plan.final({})
    return [state_of(point, plan.folder) for point in points]


def _search(shop: _Shop) -> Iterator[States]:
    """As many runs as there are workers, then as many again, each time where TPE expects most."""
    plan = shop.plan
    points = _searched(plan)
    if points:
        yield from shop.train(points)
    while len(points) < (plan.trials or 0):
        told = [(point.settings, max(0.0, _mAP(plan.folder.run(point.name), shop.labels))) for point in points]
        fresh = proposals(plan.axes, told, min(shop.jobs, (plan.trials or 0) - len(points)))
        if not fresh:
            return
        points += [plan.proposed(settings) for settings in fresh]
        yield from shop.train(points)


def _searched(plan: SweepPlan) -> list[Point]:
    """The runs that a search has made so far."""
    if not (plan.folder.path / FILE).is_file():
        return []
    entries = StudyFile.load(plan.folder.path).runs
    return [plan.proposed(entry.settings) for entry in entries if entry.settings.keys() == plan.axes.keys()]


def _chosen(shop: _Shop) -> dict[str, Mapping[str, Any]]:
    """By the words of a cell, the tuned values of the highest mAP on held-out data, the first of equals.

    Raises:
        RunError: all runs of a cell failed.
    """
    plan, values = shop.plan, combinations(shop.plan.tune)
    best: dict[str, Mapping[str, Any]] = {}
    for number, cell in enumerate(plan.cells):
        own = plan.tuning[number * len(values) : (number + 1) * len(values)]
        scores = [_mAP(plan.folder.run(point.name), shop.labels) for point in own]
        if max(scores) < 0:
            raise RunError(f"{cell.words}: no run to choose {', '.join(plan.tune)} by; logs in {plan.folder.path}/logs")
        best[cell.words] = values[scores.index(max(scores))]
    return best


def _mAP(run: Path, labels: Sequence[str] | None) -> float:  # noqa: N802 - the metric's name
    """The mAP of a finished run; -1 where there is none."""
    record = record_of(run)
    if record is None or record.status != "finished":
        return -1.0
    value = result_of(Run(run, record), labels=labels).values["mAP"]
    return -1.0 if value is None else value
