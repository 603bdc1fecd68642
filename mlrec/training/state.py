"""`State`, which contains all values that change during training, and its checkpoints.

On a CPU, and on CUDA with `deterministic`, a killed run can be resumed bit-exactly from a checkpoint. The sample order,
the augmentation and the random numbers of torch depend only on the seed, the epoch, and the sample or step. The state
of random generators is therefore not stored. The two newest checkpoints are kept. A SHA-256 digest is appended to each
checkpoint, so that incomplete or damaged checkpoints are detected.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from mlrec.models.classifier import Classifier
from mlrec.run_folders import directory
from mlrec.utils.errors import RunError
from mlrec.utils.files import atomic_write

if TYPE_CHECKING:
    from mlrec.training.ema import WeightAverage

logger = logging.getLogger(__name__)


FORMAT = "mlrec-resume/1"
_TRAILER = 1 + hashlib.sha256().digest_size * 2  # a newline and the hexadecimal digest
_COUNTERS = ("epoch", "batch", "step", "loss_sum", "skipped", "seconds")


@dataclass(frozen=True)
class EpochScore:
    """mAP on a split after an epoch (counted from 1); the mAP is None if no label has an AP."""

    epoch: int
    split: str
    mAP: float | None


@dataclass
class State:
    """All values that change during training.

    Attributes:
        ema: Average of the weights, or None; if set, the averaged weights are evaluated and saved as the model.
        epoch: Current epoch, starting from 0.
        batch: Number of finished batches in the current epoch.
        step: Number of optimizer steps.
        loss_sum: Sum of the losses of the current epoch.
        skipped: Number of consecutive steps that the fp16 scaler skipped.
        history: Scores of the epochs that have been evaluated.
        seconds: Time in seconds spent so far on each part of the run: "train", "eval", "features" and "head".
        saved: Step of the newest checkpoint; None before the first checkpoint.
    """

    model: Classifier
    optimizer: Optimizer
    scaler: GradScaler
    ema: WeightAverage | None = None
    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    skipped: int = 0
    history: list[EpochScore] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    saved: int | None = None

    @property
    def scored(self) -> Classifier:
        """Return the model to evaluate and store: the weight average if there is one, otherwise the model."""
        if self.ema is None:
            return self.model
        averaged: Classifier = self.ema.module
        return averaged

    @property
    def nbytes(self) -> int:
        """Return the approximate checkpoint size in bytes.

        Optimizer moments are included, even if they are not allocated yet.
        """
        weights = sum(tensor.nbytes for tensor in self.model.state_dict().values())
        moments = 1
        if type(self.optimizer).__name__ == "AdamW":
            moments = 2
        trained = sum(p.nbytes for group in self.optimizer.param_groups for p in group["params"])
        return int(weights * (1 if self.ema is None else 2) + moments * trained)

    def content(self) -> dict[str, Any]:
        """Return the tensors and plain values that a checkpoint stores."""
        return {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": [asdict(score) for score in self.history],
            **{name: getattr(self, name) for name in _COUNTERS},
        }

    def snapshot(self) -> Snapshot:
        """Copy the state to host memory, so that training can continue while the copy is written."""
        return Snapshot(self.step, self.nbytes, _host_copy(self.content()))

    def restore(self, content: dict[str, Any]) -> None:
        """Restore the state from the content of a checkpoint.

        Raises:
            RunError: A key is missing or unknown, or the tensors do not match the model.
        """
        expected = {"model", "ema", "optimizer", "scaler", "history", *_COUNTERS}
        different = sorted(expected.symmetric_difference(content))
        if different:
            raise RunError(f"the checkpoint has missing or unknown keys ({', '.join(different)}); start a new run")
        try:
            self.model.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
            if self.ema is not None:
                self.ema.module.load_state_dict(content["ema"])
                self.ema.forget_tensors()
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(f"the checkpoint does not match the model ({reason}); start a new run") from error
        for name in _COUNTERS:
            setattr(self, name, content[name])
        self.history = [EpochScore(**score) for score in content["history"]]
        self.saved = self.step


@dataclass
class Snapshot:
    """Copy of a state in host memory.

    Attributes:
        step: Number of optimizer steps.
        nbytes: Approximate size of the checkpoint in bytes.
        values: Content of the checkpoint.
        saved: Step of the newest checkpoint.
    """

    step: int
    nbytes: int
    values: dict[str, Any]
    saved: int | None = None

    def content(self) -> dict[str, Any]:
        """Return the tensors and plain values that a checkpoint stores."""
        return self.values


def _host_copy(value: Any) -> Any:
    """Copy nested values and move all tensors to host memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        copied = type(value)((key, _host_copy(part)) for key, part in value.items())
        if hasattr(value, "_metadata"):  # attribute of a module's state_dict
            copied._metadata = value._metadata  # type: ignore[attr-defined]
        return copied
    if isinstance(value, list | tuple):
        return type(value)(_host_copy(part) for part in value)
    return value


def save(folder: Path, state: State | Snapshot, identity: Mapping[str, Any]) -> None:
    """Write a checkpoint to a run folder, and keep the previous checkpoint.

    Args:
        folder: Run folder.
        state: State to store; the weights must be finite.
        identity: Values that must be the same when the run is resumed.
    """
    newest = folder / directory.RESUME
    with atomic_write(newest, state.nbytes) as stream:
        hashing = _Hashing(stream)
        content = {"format": FORMAT, "identity": dict(identity), "state": state.content()}
        try:
            torch.save(content, cast(IO[bytes], hashing))
        except RuntimeError as error:
            raise hashing.error or error from error  # torch's error states a file position, not the reason
        stream.write(b"\n" + hashing.digest.hexdigest().encode())
        if newest.exists():
            newest.replace(folder / directory.RESUME_PREVIOUS)
    state.saved = state.step


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the identity and content of the newest valid checkpoint in a run folder.

    Raises:
        RunError: There is no valid checkpoint.
    """
    faults = []
    for name in (directory.RESUME, directory.RESUME_PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        content = _read(path)
        if content is None:
            faults.append(f"{path}: incomplete or damaged checkpoint (SHA-256 differs)")
            continue
        for fault in faults:
            logger.warning(f"{fault}; using {name} (step {content['state']['step']})")
        return content["identity"], content["state"]
    raise RunError("; ".join(faults) or f"{folder}: there is no checkpoint to resume from; start a new run")


def _read(path: Path) -> dict[str, Any] | None:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        left = path.stat().st_size - _TRAILER
        while left > 0 and (block := stream.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        if stream.read() != b"\n" + digest.hexdigest().encode():
            return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, ValueError, EOFError, pickle.UnpicklingError):
        return None
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return content
    return None


class _Hashing:
    """Stream that computes the SHA-256 digest of the written data and stores a write error."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, block: bytes) -> int:
        self.digest.update(block)
        try:
            return self.stream.write(block)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.stream.flush()


class CheckpointWriter:
    """Writer that saves one checkpoint at a time in a background thread; training waits only for the copy.

    A checkpoint gets its final name only when it is complete, see `save`. If a run is killed while a checkpoint is
    written, the run is resumed from the previous checkpoint.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, folder: Path, current: State, identity: Mapping[str, Any]) -> None:
        """Wait until the previous checkpoint has been written, copy the state, and start writing the copy.

        Raises:
            MlrecError: The previous checkpoint could not be written.
        """
        self.wait()
        copy = current.snapshot()

        def write() -> None:
            try:
                save(folder, copy, identity)
                current.saved = copy.step
            except Exception as error:  # noqa: BLE001 - `wait` raises it in the training thread
                self._error = error

        self._thread = threading.Thread(target=write, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until the newest checkpoint is on disk.

        Raises:
            MlrecError: The checkpoint could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
