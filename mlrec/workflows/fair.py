"""`mlrec train --compare`: the baseline of the paper beside CSRA, and between them what the recipe alone does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlrec.progress import SILENT, Progress
from mlrec.reports.table import Table
from mlrec.runs import directory
from mlrec.runs.record import Run
from mlrec.sweeps.studies import fair_rows
from mlrec.workflows.compare import compare_runs
from mlrec.workflows.defaults import make_plan
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
        MlrecError: as `train`.
    """
    from mlrec.training.features import FeatureStore

    plan = make_plan({**flags, "head": "csra"}, progress, file=file, recipe=recipe, data_root=Path(data_root))
    stem = f"{plan.dataset.info.name}-{plan.config.backbone}-compare".replace("/", "-")
    folder, features = Path(out) / (name or stem), FeatureStore()
    found: dict[str, list[Run]] = {}
    for row, settings in fair_rows(plan.config.head_lr_mult).items():
        for seed in seeds:
            path = folder / f"{row}-{seed}"
            progress.say(f"{row}, seed {seed}")
            run = Run.load(path) if (path / directory.RECORD).is_file() else None
            if run is not None and run.record.status != "finished":
                run = resume(path, features=features, progress=progress)
            if run is None:
                given = {**flags, "data": str(plan.dataset.path), **settings, "seed": seed}
                run = train(
                    given, file=file, recipe=recipe or plan.resolved.recipe, out=folder, name=path.name,
                    features=features, progress=progress,
                )  # fmt: skip
            found.setdefault(row, []).append(run)
    return found


def tables(found: Mapping[str, Sequence[Run]]) -> list[Table]:
    """The rows as one table, and each step from the baseline to CSRA with its paired intervals."""
    paths = {row: [run.path for run in runs] for row, runs in found.items()}
    made = [report([path for row in paths.values() for path in row]).table]
    for ours, theirs in (("csra", "baseline"), ("csra", "baseline-lr"), ("csra", "csra-lam0")):
        compared = compare_runs(paths[ours], paths[theirs])[0]
        made.append(replace(compared, title=f"A = {ours}, B = {theirs}: {compared.title}"))
    return made
