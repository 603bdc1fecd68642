"""Evaluations of models that mlrec did not train; tables of runs contain a row for each evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from mlrec.config import current_keys
from mlrec.lineage import Lineage, unknown_lineage
from mlrec.run_folders import directory
from mlrec.run_folders.record import Run, RunRecord, SplitRecord, lineage_at
from mlrec.utils.errors import RunError
from mlrec.utils.files import MODEL_FILE, read_own_json

FILE = "eval.json"


class _EvaluationRecord(msgspec.Struct, frozen=True):
    """Content of `eval.json`; if `lam_at_test` is set, the metrics differ from those of the stored model."""

    model: str
    scored: SplitRecord
    config: dict[str, Any] | None = None
    lam_at_test: bool = False
    environment: dict[str, Any] = {}
    warnings: list[str] = []
    lineage: Lineage | None = None


def evaluations(folder: Path, *, lam_at_test: bool = False) -> list[Run]:
    """Return the evaluation in `folder`, or else all evaluations up to two levels below, sorted by path.

    In the second case, evaluations in run folders are skipped, because the metrics of these runs are stored separately.
    Evaluations whose `eval.json` does not contain the settings of the model, such as those with tuned thresholds, are
    always skipped.

    Args:
        folder: Folder of an evaluation, of an imported model, or of multiple imported models.
        lam_at_test: Whether to include evaluations in which λ was added at test time.
    """
    if (folder / FILE).is_file():
        files = [folder / FILE]
    else:
        below = [*folder.glob(f"*/{FILE}"), *folder.glob(f"*/*/{FILE}")]
        files = [file for file in sorted(below) if not (file.parent.parent / directory.RECORD).is_file()]
    runs = [_as_run(file, lam_at_test) for file in files]
    return [run for run in runs if run is not None]


def _as_run(file: Path, lam_at_test: bool) -> Run | None:
    """Return an evaluation as a finished run, or None if the evaluation must be excluded."""
    evaluation = read_own_json(file, _EvaluationRecord, RunError, "evaluate the model again")
    if evaluation.config is None or (evaluation.lam_at_test and not lam_at_test):
        return None
    model = Path(evaluation.model)
    if (file.parent.parent / MODEL_FILE).is_file():  # the folder may have been moved since the evaluation
        model = file.parent.parent
    lineage = evaluation.lineage or lineage_at(model) or unknown_lineage(model.name)
    train = None
    if lineage.trainings:
        *before, last = lineage.trainings
        train = SplitRecord(last.dataset, last.kind, last.split, last.samples, last.digest)
        lineage = msgspec.structs.replace(lineage, trainings=tuple(before))
    backbone = str(evaluation.config.get("backbone", ""))
    record = RunRecord(
        name=model.name,
        status="finished",
        config=current_keys(evaluation.config),
        scored=evaluation.scored,
        train=train,
        lineage=lineage,
        model={"backbone": backbone.partition(".")[0]},  # without the tag, because the weights were trained further
        environment=evaluation.environment,
        warnings=evaluation.warnings,
    )
    return Run(file.parent, record, model)
