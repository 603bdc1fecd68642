"""What `mlrec eval` left beside a model that was not trained here: for tables as good as a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from mlrec.lineage import Lineage, unknown_lineage
from mlrec.renamed import current_keys
from mlrec.runs import directory
from mlrec.runs.ancestry import lineage_at
from mlrec.runs.record import Run, RunRecord, SplitRecord
from mlrec.utils.errors import RunError
from mlrec.utils.files import MODEL_FILE, read_own_json

FILE = "eval.json"


class _EvaluationRecord(msgspec.Struct, frozen=True):
    """`eval.json`; without `config`, or with `lam_at_test`, its numbers are not those of the model as it is."""

    model: str
    scored: SplitRecord
    config: dict[str, Any] | None = None
    lam_at_test: bool = False
    environment: dict[str, Any] = {}
    warnings: list[str] = []
    lineage: Lineage | None = None


def evaluations(folder: Path, *, lam_at_test: bool = False) -> list[Run]:
    """The evaluation that `folder` is, or those below it, an imported model or a folder of such, in order of path.

    Those below a run are left out: it stands for itself. Evaluations with λ at test time are taken if `lam_at_test`.
    """
    if (folder / FILE).is_file():
        files = [folder / FILE]
    else:
        below = [*folder.glob(f"*/{FILE}"), *folder.glob(f"*/*/{FILE}")]
        files = [file for file in sorted(below) if not (file.parent.parent / directory.RECORD).is_file()]
    return [run for file in files if (run := _as_run(file, lam_at_test)) is not None]


def _as_run(file: Path, lam_at_test: bool) -> Run | None:
    found = read_own_json(file, _EvaluationRecord, RunError, "evaluate the model again")
    if found.config is None or (found.lam_at_test and not lam_at_test):
        return None
    folder, beside = file.parent, file.parent.parent
    model = beside if (beside / MODEL_FILE).is_file() else Path(found.model)
    trained = found.lineage or lineage_at(model) or unknown_lineage(model.name)
    before = msgspec.structs.replace(trained, trainings=trained.trainings[:-1])
    last = trained.trainings[-1] if trained.trainings else None
    record = RunRecord(
        name=model.name,
        status="finished",
        config=current_keys(found.config),
        scored=found.scored,
        train=None if last is None else SplitRecord(last.dataset, last.kind, last.split, last.samples, last.digest),
        lineage=before,
        model={"backbone": str(found.config.get("backbone", "")).partition(".")[0]},  # its weights are not the tag's
        environment=found.environment,
        warnings=found.warnings,
    )
    return Run(folder, record, model)
