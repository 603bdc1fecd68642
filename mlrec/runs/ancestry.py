"""The lineage of stored models and runs: followed over any number of runs that started from each other."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import safetensors

from mlrec.config import PATHS
from mlrec.lineage import Lineage, Training, lineage_from, unknown_lineage
from mlrec.runs import directory
from mlrec.runs.record import RunRecord, SplitRecord
from mlrec.utils.errors import RunError

METADATA_KEY = "mlrec"  # of a model file; see `models.checkpoint`


def training_of(train: SplitRecord, run: str = "") -> Training:
    """The training on a split, as a lineage lists it."""
    return Training(train.dataset, train.kind, train.split, train.samples, train.digest, run)


def lineage_of(record: RunRecord, seen: frozenset[Path] = frozenset()) -> Lineage:
    """The lineage of the weights that a run started from.

    A record of an earlier version has none: it is then found again by the run's settings. What it started from may be
    gone or have been replaced since; only then is the lineage unknown.
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
    """The lineage of a model of mlrec, its own training included; None if `source` is no such model or says nothing.

    Args:
        source: A run folder, an imported folder or a model file.
        seen: Folders on the way here: runs that name each other are not followed for ever.
    """
    folder = source if source.is_dir() else source.parent
    file = source / directory.MODEL if source.is_dir() else source
    own = source.is_dir() or source.name in (directory.MODEL, directory.BEST)
    has_record = own and (folder / directory.RECORD).is_file()
    stored = _stored(file)
    if stored is not None:
        return _named(stored, folder.name) if has_record else stored
    place = folder.resolve()
    if not has_record or place in seen:
        return None
    try:
        record = RunRecord.load(folder)
    except RunError:
        return None
    before = lineage_of(record, seen | {place})
    return before if record.train is None else before.followed_by(training_of(record.train, folder.name))


def _named(lineage: Lineage, run: str) -> Lineage:
    """The lineage of a run's model with the run's name: a model file does not know it."""
    if not lineage.trainings:
        return lineage
    *before, last = lineage.trainings
    return msgspec.structs.replace(lineage, trainings=(*before, msgspec.structs.replace(last, run=run)))


def _stored(file: Path) -> Lineage | None:
    """The lineage in a model file; the weights are not read."""
    if not file.is_file():
        return None
    try:
        with safetensors.safe_open(file, framework="np") as opened:
            text = (opened.metadata() or {}).get(METADATA_KEY, "{}")
        return lineage_from(msgspec.convert(json.loads(text), dict).get("lineage"))
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError):
        return None
