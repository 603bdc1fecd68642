"""`mlrec train --compare`: the baseline of the paper beside CSRA, and between them what the recipe alone does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlrec.errors import UsageError, printable
from mlrec.files import check_name
from mlrec.progress import SILENT, Progress
from mlrec.reports.table import Table
from mlrec.runs import directory
from mlrec.runs.record import Run
from mlrec.sweeps.studies import fair_rows
from mlrec.workflows import records
from mlrec.workflows.compare import compare_runs
from mlrec.workflows.defaults import Plan, make_plan
from mlrec.workflows.interrupt import stopped_says
from mlrec.workflows.report import report
from mlrec.workflows.train import resume, train


def train_fair_rows(
    flags: Mapping[str, Any],
    *,
    file: Path | None = None,
    recipe: str | None = None,
    out: Path | str = "runs",
    name: str | None = None,
    seeds: Sequence[int] = (0,),
    data_root: Path | str = "data",
    progress: Progress = SILENT,
) -> dict[str, list[Run]]:
    """Train the four rows, each with every seed, into `out/name/ROW-SEED`; those that are finished are kept.

    Args:
        flags: keys of `Config` for all rows.
        file: see `train`.
        recipe: see `train`.
        out: folder of runs.
        name: of the folder of the four; left out, data set, backbone and "compare".
        seeds: of the runs.
        data_root: where the data set prepared last is looked for when none is named.
        progress: where bars, notes and warnings go.

    Raises:
        UsageError: what lies there was made with other settings or data; names what was and what is now.
        MlrecError: as `train`.
    """
    from mlrec.training.features import FeatureStore

    if name is not None:
        check_name(name)
    plan = make_plan({**flags, "head": "csra"}, progress, file=file, recipe=recipe, data_root=Path(data_root))
    stem = f"{plan.dataset.info.name}-{plan.config.backbone}-compare".replace("/", "-")
    folder, features = Path(out) / (name or stem), FeatureStore()
    named = recipe or plan.resolved.recipe
    found: dict[str, list[Run]] = {}
    for row, settings in fair_rows(plan.config.head_lr_mult).items():
        for seed in seeds:
            path = folder / f"{row}-{seed}"
            progress.say(f"{row}, seed {seed}")
            given = {**flags, "data": str(plan.dataset.path), **settings, "seed": seed}
            run = _kept(path, make_plan(given, SILENT, file=file, recipe=named, dataset=plan.dataset))
            with stopped_says(f"stopped at {row}, seed {seed}; the same command goes on"):
                if run is None:
                    run = train(
                        given, file=file, recipe=named, out=folder, name=path.name, features=features, progress=progress
                    )
                elif run.record.status != "finished":
                    run = resume(path, features=features, progress=progress)
            found.setdefault(row, []).append(run)
    return found


def _kept(path: Path, wanted: Plan) -> Run | None:
    """The run that an earlier comparison left at `path`, if any.

    Raises:
        UsageError: it is not the one that is wanted now.
    """
    if not (path / directory.RECORD).is_file():
        return None
    run = Run.load(path)
    used = {"train": run.record.train, "scored": run.record.scored}
    known = {"config": run.record.config} | {name: split.digest for name, split in used.items() if split is not None}
    try:
        records.check_same(known, records.identity(wanted))
    except UsageError as error:
        raise UsageError(f"{printable(path)}: {error}\n(or give the comparison another --name)") from error
    return run


def tables(found: Mapping[str, Sequence[Run]]) -> list[Table]:
    """The rows as one table, and each step from the baseline to CSRA with its paired intervals."""
    paths = {row: [run.path for run in runs] for row, runs in found.items()}
    made = [report([path for row in paths.values() for path in row]).table]
    for ours, theirs in (("csra", "baseline"), ("csra", "baseline-lr"), ("csra", "csra-lam0")):
        compared = compare_runs(paths[ours], paths[theirs])[0]
        made.append(replace(compared, title=f"A = {ours}, B = {theirs}: {compared.title}"))
    return made
