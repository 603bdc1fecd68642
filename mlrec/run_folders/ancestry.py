"""Lineage of models and runs: the initial weights, and the earlier runs that trained these weights."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import safetensors

from mlrec.config import PATHS
from mlrec.lineage import Lineage, lineage_from, unknown_lineage
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord
from mlrec.utils.errors import RunError

METADATA_KEY = "mlrec"  # key in a model file; see `models.checkpoint`


def lineage_of(record: RunRecord, seen: frozenset[Path] = frozenset()) -> Lineage:
    """Return the lineage of the initial weights of a run.

    If the record was written by an earlier version of mlrec and has no lineage, the lineage is inferred from the
    settings of the run. The inferred lineage is unknown if the initial model is missing or has been replaced.

    Args:
        record: Record of the run.
        seen: Folders that have already been visited, to stop at circular references.
    """
    if record.lineage is not None:
        return record.lineage
    config = record.config
    start = config.get("init_from") or config.get("weights")
    if start in PATHS["weights"]:
        return Lineage(weights=str(start), origin="package")
    if start:
        return lineage_at(Path(str(start)), seen) or unknown_lineage(str(start))
    if config.get("pretrained") is False:
        return Lineage(weights="random", origin="random")
    known = record.model.get("weights") or record.model.get("backbone") or config.get("backbone", "")
    return Lineage(weights=str(known), origin="timm")


def lineage_at(source: Path, seen: frozenset[Path] = frozenset()) -> Lineage | None:
    """Return the lineage of an mlrec model, including the training of the model itself.

    Returns None if no lineage is stored and the training of the model is unknown.

    Args:
        source: Run folder, folder of an imported model, or model file.
        seen: Folders that have already been visited.
    """
    folder, file, own = source.parent, source, source.name in (directory.MODEL, directory.BEST)
    if source.is_dir():
        folder, file, own = source, source / directory.MODEL, True
    has_record = own and (folder / directory.RECORD).is_file()
    stored = _stored(file)
    if stored is not None and has_record:
        return _with_run_name(stored, folder.name)
    if stored is not None:
        return stored
    resolved = folder.resolve()
    if not has_record or resolved in seen:
        return None
    try:
        record = RunRecord.load(folder)
    except RunError:
        return None
    before = lineage_of(record, seen | {resolved})
    if record.train is None:
        return before
    return before.followed_by(record.train.training(folder.name))


def _with_run_name(lineage: Lineage, run: str) -> Lineage:
    """Add the run name to the last training of a lineage, because model files do not contain this name."""
    if not lineage.trainings:
        return lineage
    *before, last = lineage.trainings
    return msgspec.structs.replace(lineage, trainings=(*before, msgspec.structs.replace(last, run=run)))


def _stored(file: Path) -> Lineage | None:
    """Read the lineage from a model file without reading the weights."""
    if not file.is_file():
        return None
    try:
        with safetensors.safe_open(file, framework="np") as opened:
            text = (opened.metadata() or {}).get(METADATA_KEY, "{}")
        return lineage_from(msgspec.convert(json.loads(text), dict).get("lineage"))
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError):
        return None
