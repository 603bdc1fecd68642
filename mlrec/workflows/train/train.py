"""`mlrec train`: a plan and a dataset → a run folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlrec.runs import directory
from mlrec.runs.record import Run
from mlrec.utils import processes
from mlrec.utils.errors import RunError, printable
from mlrec.utils.files import check_name
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.train.plan import resolve_plan

if TYPE_CHECKING:
    from mlrec.training.features import FeatureCache


def train(
    flags: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    recipe: str | None = None,
    out: Path | str = "runs",
    name: str | None = None,
    data_root: Path | str = "data",
    command: Sequence[str] | None = None,
    features: FeatureCache | None = None,
    progress: Progress = SILENT,
) -> Run:
    """Train a model and score it; everything lies in the run folder `out/name`.

    Args:
        flags: keys of `Config`; they win over `file`, that over the recipe, that over the defaults.
        file: TOML with keys of `Config`; its `base` names a recipe.
        recipe: name of a recipe; left out, the file's base, else the one that the dataset names.
        out: folder of runs.
        name: of the run folder; left out, dataset, backbone and head with a number.
        data_root: where the dataset prepared last is looked for when none is named.
        command: the command line, for the record.
        features: of frozen backbones, kept from one run to the next.
        progress: where bars, notes and warnings go.

    Raises:
        ConfigError: keys or values that do not fit; nothing was touched.
        UsageError: `name` is no folder name.
        MlrecError: data, weights or machine do not do; or training diverged.
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
    """
    out = Path(out)
    if name is not None:
        check_name(name)
    progress = progress if processes.rank() == 0 else SILENT
    plan = resolve_plan(flags or {}, progress, file=file, recipe=recipe, data_root=Path(data_root))
    if name is not None:
        directory.check_free(out / name)
    from mlrec.workflows.train.trainer import Trainer  # imports torch, which takes seconds

    command = list(sys.argv if command is None else command)
    return Trainer(plan, progress, out=out, name=name, command=command, features=features).run()


def resume(
    run: Path | str,
    flags: Mapping[str, Any] | None = None,
    *,
    features: FeatureCache | None = None,
    progress: Progress = SILENT,
) -> Run:
    """Go on with a run that was stopped or killed, to the same bits as if it had not been.

    Args:
        run: its folder.
        flags: keys of `Config`; they must be what the run was started with, except for `workers` and `save_every`.
        features: of frozen backbones, kept from one run to the next.
        progress: where bars, notes and warnings go.

    Raises:
        RunError: nothing to resume.
        UsageError: the run was another experiment; names what was and what is now.
    """
    folder = Path(run)
    progress = progress if processes.rank() == 0 else SILENT
    unfinished = Run.load(folder)
    if unfinished.record.status == "finished":
        raise RunError(f"{printable(folder)}: is finished; nothing to resume")
    plan = resolve_plan(
        dict(flags or {}),
        progress,
        file=folder / directory.CONFIG,
        recipe=unfinished.record.recipe,
        resumed=True,
    )
    from mlrec.workflows.train.trainer import Trainer  # imports torch, which takes seconds

    return Trainer(plan, progress, resumed=unfinished, features=features).run()
