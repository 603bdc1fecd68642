"""Data that a training run stores (config, record and identity), and callbacks.

Callbacks are user code that runs after steps, after epochs, and at the end of a run.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlrec.config import PATHS, Config, current_keys
from mlrec.lineage import Lineage
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord, SplitRecord, Status, environment, lineage_at, lineage_of
from mlrec.utils import processes
from mlrec.utils.errors import ConfigError, UsageError
from mlrec.utils.files import read_text, write_text
from mlrec.utils.signals import Interrupted

if TYPE_CHECKING:
    import torch

    from mlrec.metrics.summary import Metrics
    from mlrec.models.classifier import Classifier
    from mlrec.training.devices import Precision
    from mlrec.training.state import EpochScore, State
    from mlrec.workflows.train.train import TrainPlan

# Keys that may differ in a resumed run. `data` may be moved, but its digest must be equal; `other_machine` warns if
# device or threads differ.
FREE = ("data", "workers", "save_every", "trackers", "tensorboard", "device", "threads")
METHODS = ("on_step", "on_epoch", "on_end")  # of callbacks


def plain(config: Config) -> dict[str, Any]:
    """Return the config as JSON values; an infinite temperature becomes "inf"."""
    values: dict[str, Any] = msgspec.to_builtins(config)
    if config.temperatures is not None:
        values["temperatures"] = ["inf" if math.isinf(t) else t for t in config.temperatures]
    return values


def write_config(folder: Path, plan: TrainPlan) -> None:
    """Write `config.toml` with all keys that have a value.

    `mlrec train --config` with this file repeats the run.
    """
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
    """Return the record of a new run."""
    from mlrec.training.setup import facts

    return RunRecord(
        name=folder.name if folder else "",
        status="running",
        config=plain(plan.config),
        sources=dict(plan.resolved.sources),
        recipe=plan.resolved.recipe,
        command=list(command),
        started=_now(),
        train=SplitRecord.of(plan.dataset, plan.train),
        scored=SplitRecord.of(plan.dataset, plan.scored),
        model=facts(model, plan.config),
        lineage=starting_lineage(plan.config, model.backbone.name),
        environment=environment(device, precision),
        notes=_notes(plan.config),
        warnings=list(plan.dataset.info.warnings),
    )


def starting_lineage(config: Config, backbone: str) -> Lineage:
    """Return the lineage of the initial weights of a run.

    Args:
        config: Config of the run.
        backbone: timm name of the backbone, with the tag of the pretrained weights.
    """
    source = config.init_from or config.weights
    if source is None and not config.pretrained:
        return Lineage(weights="random", origin="random")
    if source is None:
        return Lineage(weights=backbone, origin="timm")
    if source in PATHS["weights"]:
        return Lineage(weights=source, origin="package")
    from mlrec.models.weights import file_lineage  # imports torch

    return lineage_at(Path(source)) or file_lineage(Path(source), backbone, config.weights_origin)


def trained_lineage(record: RunRecord) -> Lineage:
    """Return the lineage of the trained model: the initial weights and the training data of the run."""
    before = lineage_of(record)
    if record.train is None:
        return before
    return before.followed_by(record.train.training())


def unknown_origin(record: RunRecord) -> str | None:
    """Return a warning if a run starts from weights of unknown origin, otherwise None.

    Tables list runs that start from weights of unknown origin separately.
    """
    lineage = lineage_of(record)
    if lineage.origin != "unknown":
        return None
    return (
        f"{lineage.weights}: weights of unknown origin; tables mark these weights as extra data and list the run in a "
        "separate group. If you know what the weights were trained on, state it with --weights-origin"
    )


def updated(record: RunRecord, status: Status, state: State, plan: TrainPlan) -> RunRecord:
    """Return a copy of the record with the current status, times and best epoch of the run."""
    best = best_epoch(state.history, plan)
    return msgspec.structs.replace(
        record,
        status=status,
        finished=_now() if status == "finished" else None,
        seconds={part: round(seconds, 3) for part, seconds in state.seconds.items()},
        best=None if best is None else asdict(best),
    )


def best_epoch(history: Sequence[EpochScore], plan: TrainPlan) -> EpochScore | None:
    """Return the first epoch with the highest mAP on the selection split.

    If there is no selection split, the scored split is used. Returns None if no epoch has a defined mAP on this split,
    or if there is no selection split and `eval_every` is not set.
    """
    if plan.select is None and not plan.config.eval_every:
        return None
    split = plan.scored.split
    if plan.select is not None:
        split = plan.select.split
    candidates = [score for score in history if score.split == split and score.mAP is not None]
    if not candidates:
        return None
    return max(candidates, key=lambda score: (score.mAP or 0.0, -score.epoch))


def patience_is_out(history: Sequence[EpochScore], plan: TrainPlan) -> bool:
    """Return whether the mAP on the selection split has not improved for `patience` epochs."""
    best = best_epoch(history, plan)
    if not plan.config.patience or plan.select is None or best is None:
        return False
    newest = max(score.epoch for score in history if score.split == plan.select.split)
    return newest - best.epoch >= plan.config.patience


def scores_after(epoch: int, state: State) -> dict[str, float]:
    """Return the mAP on each split evaluated after an epoch, under names such as "val/mAP"."""
    scores = [score for score in state.history if score.epoch == epoch]
    return {f"{score.split}/mAP": score.mAP for score in scores if score.mAP is not None}


def means(metrics: Metrics) -> dict[str, float]:
    """Return the overall metrics by name; undefined metrics are omitted."""
    values = {name: getattr(metrics, name) for name in ("mAP", "CP", "CR", "CF1", "OP", "OR", "OF1")}
    return {name: value for name, value in values.items() if value is not None}


class RunIdentity(msgspec.Struct, frozen=True, omit_defaults=True):
    """Values that must be the same in a resumed run.

    Attributes:
        config: All keys of the config; only the keys in `FREE` may change.
        labels: Labels of the training split, in order.
        train, scored: Digests of the manifests for training and evaluation.
        processes: Number of processes.
        weights: SHA-256 digest of the `pos_weight` file; None if there is no file.
    """

    config: dict[str, Any]
    labels: list[str]
    train: str
    scored: str
    processes: int
    weights: str | None = None


def identity(plan: TrainPlan) -> RunIdentity:
    """Return the values that must be the same when a run is resumed.

    Raises:
        ConfigError: The `pos_weight` file cannot be read.
    """
    weights = None
    if plan.config.pos_weight not in PATHS["pos_weight"]:
        content = read_text(Path(plan.config.pos_weight), ConfigError)
        weights = hashlib.sha256(content.encode()).hexdigest()
    return RunIdentity(
        config=plain(plan.config),
        labels=list(plan.train.labels),
        train=plan.train.digest,
        scored=plan.scored.digest,
        processes=processes.world_size(),
        weights=weights,
    )


def check_same(was: Mapping[str, Any], identity: RunIdentity) -> None:
    """Check that a checkpoint was written by the run to be resumed.

    Args:
        was: Identity stored in the checkpoint. Keys that are missing from an older checkpoint are not compared.
        identity: Current identity of the run.

    Raises:
        UsageError: The identities differ. The message has one line per difference, with both values.
    """
    now: dict[str, Any] = msgspec.to_builtins(identity)
    names = {
        "train": "train data",
        "scored": "scored data",
        "labels": "labels",
        "processes": "processes",
        "weights": "content of the pos_weight file",
    }
    config = current_keys(was["config"])
    pairs = {name: (was[key], now.get(key)) for key, name in names.items() if key in was}
    for key in sorted({*config, *now["config"]} - set(FREE)):
        pairs[key] = (_as_json(config.get(key)), _as_json(now["config"].get(key)))
    changed = [f"{key}: was {old}, now {new}" for key, (old, new) in pairs.items() if old != new]
    if changed:
        raise UsageError(
            "the following settings or data differ from those of the run; restore the original values, or start a "
            "new run",
            *changed,
        )


def _as_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value


def other_machine(was: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return a warning if a resumed run will not be bit-exact, otherwise None.

    A resumed run is not bit-exact if the torch version, device, GPU model, precision or number of threads is different.
    """
    keys = ("torch", "device", "gpu", "precision", "threads")
    changed = [f"{key} was {was.get(key)}, is now {now.get(key)}" for key in keys if was.get(key) != now.get(key)]
    if not changed:
        return None
    return f"resumed, but the result will not be bit-exact: {'; '.join(changed)}"


def little_room(folder: Path, checkpoint: int) -> str | None:
    """Return a warning if the disk has little space for checkpoints and weights, otherwise None.

    A run needs space for two checkpoints of `checkpoint` bytes each, and for the weights. The warning is returned if
    the free space is at most 6 * `checkpoint` bytes.
    """
    free = shutil.disk_usage(folder).free
    if free > 6 * checkpoint:
        return None
    return f"{folder}: {free / 1e6:,.0f} MB free; a run keeps two checkpoints of {checkpoint / 1e6:,.0f} MB"


def duration(seconds: float) -> str:
    """Format a duration in seconds as short text.

    Example:
        >>> duration(90), duration(600), duration(9000)
        ('90 s', '10 min', '2.5 h')
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes / 60:.1f} h"


def interrupted(folder: Path | None, epoch: int, step: int, number: int) -> Interrupted:
    """Return the error for a run that a signal stopped after `step` in `epoch` (counted from 0)."""
    command = f"{processes.launcher()} train --resume {shlex.quote(str(folder))}"
    return Interrupted(f"stopped at epoch {epoch + 1}, step {step}; resume: {command}", number)


@dataclass(frozen=True)
class TrainEvent:
    """State of a training run, as passed to a callback.

    Attributes:
        run: Folder of the run.
        epoch: Current epoch, counted from 1.
        step: Number of completed optimizer steps.
        loss: In `on_step`, mean loss over the steps since the last call (up to 20 steps on a GPU, one step on a CPU).
            In `on_epoch` and `on_end`, mean loss over the epoch.
        lr: Learning rate of the backbone in the last step.
        metrics: Defined metrics, as fractions, by split and name, such as "val/mAP". In `on_step`, `metrics` is empty.
            In `on_epoch`, it contains the mAP on each split that was evaluated after the epoch. In `on_end`, it
            contains mAP, CP, CR, CF1, OP, OR and OF1 on the scored split.

    Example:
        >>> class EpochLog:
        ...     def on_epoch(self, event):
        ...         print(f"epoch {event.epoch}: loss {event.loss:.3f}, {event.metrics}")
        >>> EpochLog().on_epoch(TrainEvent(Path("runs/a"), 1, 90, 0.25, 0.01, {"val/mAP": 0.8}))
        epoch 1: loss 0.250, {'val/mAP': 0.8}
    """

    run: Path
    epoch: int = 0
    step: int = 0
    loss: float = math.nan
    lr: float = math.nan
    metrics: Mapping[str, float] = field(default_factory=dict)


class CallbackFailed(Exception):  # noqa: N818 - the error is in it
    """Wrapper for an exception raised by a callback.

    The wrapper prevents training from reporting the exception as an mlrec error.

    Attributes:
        error: Exception with the traceback of the user code.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Callbacks:
    """Callbacks of a run, and the latest event.

    Args:
        objects: Objects with any of the methods `on_step`, `on_epoch` and `on_end`.

    Raises:
        UsageError: An object has none of the methods `on_step`, `on_epoch` and `on_end`.
    """

    def __init__(self, objects: Sequence[object] = ()) -> None:
        for one in objects:
            if not any(callable(getattr(one, method, None)) for method in METHODS):
                close = [name for name in dir(one) if difflib.get_close_matches(name, METHODS, n=1)]
                found = ""
                if close:
                    found = f" (found a similar name: {close[0]})"
                name = getattr(one, "__name__", type(one).__name__)
                raise UsageError(
                    f"callback {name} has none of the methods {', '.join(METHODS)}{found}; define at least one method"
                )
        self._objects = tuple(objects)
        self._event = TrainEvent(Path())

    def call(self, method: str, **facts: Any) -> None:
        """Call a method on all callbacks that define it.

        Args:
            method: Name of the method, one of `METHODS`.
            **facts: New values of event attributes.

        Raises:
            CallbackFailed: A callback raised an exception.
        """
        self._event = replace(self._event, **facts)
        for one in self._objects:
            function = getattr(one, method, None)
            if function is not None:
                try:
                    function(self._event)
                except Exception as error:
                    raise CallbackFailed(error) from error


def _notes(config: Config) -> list[str]:
    if not config.freeze_backbone:
        return []
    copies = config.feature_copies
    return [f"frozen, {copies} augmented copies" if copies else "frozen, no augmentation"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
