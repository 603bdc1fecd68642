"""What a run writes about itself, and what a resumed run must agree with."""

from __future__ import annotations

import hashlib
import math
import platform
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlrec import __version__
from mlrec.config import PATHS, Config
from mlrec.renamed import current_keys
from mlrec.runs import directory
from mlrec.runs.record import RunRecord, Status
from mlrec.utils import processes
from mlrec.utils.errors import ConfigError, UsageError, printable
from mlrec.utils.files import read_text, write_text
from mlrec.workflows.evaluate.write_scores import scored_facts
from mlrec.workflows.train.lineage import starting_lineage
from mlrec.workflows.train.plan import TrainPlan

if TYPE_CHECKING:
    import torch

    from mlrec.models.classifier import Classifier
    from mlrec.training.devices import Precision
    from mlrec.training.state import State

# Keys that a resumed run may change. `data` may move, its digest may not; `other_machine` warns of device and threads.
FREE = ("data", "workers", "save_every", "tensorboard", "device", "threads")


def plain(config: Config) -> dict[str, Any]:
    """The config as JSON can hold it: an infinite temperature is "inf"."""
    values: dict[str, Any] = msgspec.to_builtins(config)
    if config.temperatures is not None:
        values["temperatures"] = ["inf" if math.isinf(t) else t for t in config.temperatures]
    return values


def write_config(folder: Path, plan: TrainPlan) -> None:
    """Write `config.toml`: every key that has a value, so that the file repeats the run."""
    import tomli_w

    values = {key: value for key, value in msgspec.to_builtins(plan.config).items() if value is not None}
    values["data"] = str(plan.dataset.path.absolute())
    write_text(folder / directory.CONFIG, tomli_w.dumps(values))


def started(
    plan: TrainPlan,
    folder: Path | None,
    model: Classifier,
    device: torch.device,
    precision: Precision,
    command: Sequence[str],
) -> RunRecord:
    """The record of a run that begins."""
    from mlrec.training.setup import facts

    return RunRecord(
        name=folder.name if folder else "",
        status="running",
        config=plain(plan.config),
        sources=dict(plan.resolved.sources),
        recipe=plan.resolved.recipe,
        command=list(command),
        started=_now(),
        train=scored_facts(plan.dataset, plan.train),
        scored=scored_facts(plan.dataset, plan.scored),
        model=facts(model, plan.config),
        lineage=starting_lineage(plan.config, model.backbone.name),
        environment=environment(device, precision),
        notes=_notes(plan.config),
        warnings=list(plan.dataset.info.warnings),
    )


def updated(record: RunRecord, status: Status, state: State, plan: TrainPlan) -> RunRecord:
    """The record at another moment of its run."""
    return msgspec.structs.replace(
        record,
        status=status,
        finished=_now() if status == "finished" else None,
        seconds={part: round(seconds, 3) for part, seconds in state.seconds.items()},
        best=best_epoch(state.history, plan),
    )


def best_epoch(history: Sequence[Mapping[str, Any]], plan: TrainPlan) -> dict[str, Any] | None:
    """The epoch with the highest mAP on the selection split, or on the scored one where epochs were scored on it."""
    split = plan.scored.split if plan.select is None else plan.select.split
    scored = [entry for entry in history if entry["split"] == split and entry["mAP"] is not None]
    if plan.select is None and not plan.config.eval_every:
        return None
    return dict(max(scored, key=lambda entry: (entry["mAP"], -entry["epoch"]))) if scored else None


def patience_is_out(history: Sequence[Mapping[str, Any]], plan: TrainPlan) -> bool:
    """Whether the selection split's mAP has not risen for `patience` epochs."""
    best = best_epoch(history, plan)
    if not plan.config.patience or plan.select is None or best is None:
        return False
    newest = max(entry["epoch"] for entry in history if entry["split"] == plan.select.split)
    return bool(newest - best["epoch"] >= plan.config.patience)


def identity(plan: TrainPlan) -> dict[str, Any]:
    """What a resumed run must agree with.

    Raises:
        ConfigError: the file of `pos_weight` cannot be read; other files are not read again by a run that goes on.
    """
    same: dict[str, Any] = {
        "config": plain(plan.config),
        "labels": list(plan.train.labels),
        "train": plan.train.digest,
        "scored": plan.scored.digest,
        "processes": processes.world_size(),
    }
    if plan.config.pos_weight not in PATHS["pos_weight"]:
        content = read_text(Path(plan.config.pos_weight), ConfigError)
        same["weights"] = hashlib.sha256(content.encode()).hexdigest()
    return same


def check_same(was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with another experiment.

    Args:
        was: an `identity`, or that part of one which is known.
        now: the whole identity.

    Raises:
        UsageError: names each difference, what was and what is now.
    """
    names = {
        "train": "train data", "scored": "scored data", "labels": "labels", "processes": "processes",
        "weights": "content of the pos_weight file",
    }  # fmt: skip
    config = current_keys(was["config"])
    pairs = {name: (was[key], now.get(key)) for key, name in names.items() if key in was}
    for key in sorted({*config, *now["config"]} - set(FREE)):
        pairs[key] = (_as_json(config.get(key)), _as_json(now["config"].get(key)))
    changed = [f"{key}: was {printable(old)}, now {printable(new)}" for key, (old, new) in pairs.items() if old != new]
    if changed:
        raise UsageError("\n".join(["this is not the run that was started; change it back, or train anew", *changed]))


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def other_machine(was: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """A warning where a run goes on under conditions in which the same steps give other bits."""
    keys = ("torch", "device", "gpu", "precision", "threads")
    changed = [f"{key} was {was.get(key)}, is {now.get(key)}" for key in keys if was.get(key) != now.get(key)]
    if not changed:
        return None
    return f"the run goes on, but not to the bits it would have had: {printable('; '.join(changed))}"


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """Versions and machine, for whoever repeats the numbers."""
    import torch

    gpu = {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda} if device.type == "cuda" else {}
    packages = {name: version(name) for name in ("torch", "torchvision", "timm", "numpy")}
    return {
        "mlrec": __version__, "python": platform.python_version(), **packages, "machine": platform.machine(),
        "device": device.type, "precision": precision, "threads": torch.get_num_threads(),
        "processes": processes.world_size(), **gpu,
    }  # fmt: skip


def little_room(folder: Path, checkpoint: int) -> str | None:
    """A warning where two checkpoints, of `checkpoint` bytes each, hardly fit onto the disk beside the weights."""
    free = shutil.disk_usage(folder).free
    if free > 6 * checkpoint:
        return None
    return f"{printable(folder)}: {free / 1e6:,.0f} MB free; a run keeps two checkpoints of {checkpoint / 1e6:,.0f} MB"


def number(value: float) -> float | None:
    """`value`, or None where JSON has no number for it."""
    return value if math.isfinite(value) else None


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _notes(config: Config) -> list[str]:
    if not config.freeze_backbone:
        return []
    copies = config.feature_copies
    return [f"frozen, {copies} augmented copies" if copies else "frozen, no augmentation"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
