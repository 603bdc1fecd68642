"""`mlrec report --study FOLDER`: the runs of a sweep → its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlrec.errors import RunError, printable
from mlrec.reports.results import result_of, scores_and_truth
from mlrec.reports.studies import Measured, Setting, study_table
from mlrec.reports.table import Table
from mlrec.runs import log
from mlrec.runs.record import Run
from mlrec.sweeps.grid import REPEATED
from mlrec.sweeps.states import record_of
from mlrec.sweeps.study_file import Entry, StudyFile


def study_report(
    folder: Path | str,
    *,
    labels: Sequence[str] | None = None,
    conventions: str | None = None,
    intervals: bool = False,
) -> Table:
    """The table of a sweep.

    Args:
        folder: of the sweep.
        labels: score these labels alone.
        conventions: score stored predictions anew in these.
        intervals: 95 % intervals of mAP and of its differences.

    Raises:
        RunError: no sweep there, or none of its runs is finished.
    """
    folder = Path(folder)
    study = StudyFile.load(folder)
    rows: dict[str, list[Entry]] = {}
    for entry in study.runs:
        if entry.stage == "run":
            rows.setdefault(entry.method, []).append(entry)
    ends = {key: _ends(study, key) for key in study.tuned}
    settings = [_setting(folder, entries, labels, conventions, ends) for entries in rows.values()]
    if not any(setting.runs for setting in settings):
        raise RunError(f"{printable(folder)}: no run of this sweep is finished; start it again with the same command")
    return study_table(study.title, settings, intervals=intervals, notes=study.notes, tuned=study.tuned)


def _ends(study: StudyFile, key: str) -> tuple[Any, ...]:
    """The smallest and the largest number that was tried for a tuned key, where there are more than these two."""
    tried = {entry.settings[key] for entry in study.runs if entry.stage == "tune" and key in entry.settings}
    numbers = {value for value in tried if isinstance(value, int | float) and not isinstance(value, bool)}
    return (min(numbers), max(numbers)) if len(numbers) > 2 else ()


def _setting(
    folder: Path,
    entries: Sequence[Entry],
    labels: Sequence[str] | None,
    conventions: str | None,
    ends: Mapping[str, tuple[Any, ...]],
) -> Setting:
    runs = []
    for entry in entries:
        record = record_of(folder / entry.name)
        if record is not None and record.status == "finished":
            runs.append(_measured(Run(folder / entry.name, record), labels, conventions))
    own = {key: value for key, value in entries[0].settings.items() if key not in REPEATED}
    at_edge = [key for key, values in ends.items() if own.get(key) in values]
    return Setting(entries[0].label, own, runs, missing=len(entries) - len(runs), at_edge=at_edge)


def _measured(run: Run, labels: Sequence[str] | None, conventions: str | None) -> Measured:
    logits, targets, _ = scores_and_truth(run, labels)
    entries = log.entries(run.path)
    split = run.record.scored.split if run.record.scored else ""
    history = {e["epoch"]: e["mAP"] for e in entries if e["event"] == "scored" and e["split"] == split}
    losses = {e["epoch"]: e["loss"] for e in entries if e["event"] == "epoch"}
    return Measured(
        result=result_of(run, conventions=conventions, labels=labels),
        logits=logits,
        targets=targets,
        samples=tuple(run.predictions().sample_ids),
        history=sorted((epoch, value) for epoch, value in history.items() if value is not None),
        losses=[losses[epoch] for epoch in sorted(losses)],
    )
