"""`Job`: a training run under way, and what it writes while it goes on."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlrec.config import Config
from mlrec.predictions import Predictions
from mlrec.runs import directory, log
from mlrec.runs.record import RunRecord, Status
from mlrec.training.checkpoint_writer import CheckpointWriter
from mlrec.training.features import FeatureCache
from mlrec.training.loop import Network
from mlrec.training.losses import Loss
from mlrec.training.state import State
from mlrec.training.tensorboard import Board, draw, open_board
from mlrec.training.throughput import Meter
from mlrec.utils import processes
from mlrec.utils.progress import Progress
from mlrec.workflows.evaluate import write_scores
from mlrec.workflows.train import run_record
from mlrec.workflows.train.interrupt import Interrupted, Stop
from mlrec.workflows.train.plan import TrainPlan

PAUSE = 5.0  # seconds between the checkpoints of a frozen backbone's head, signals and --save-every apart


@dataclass
class Job:
    """A run under way in this process; of several processes only the first has a `folder`, and writes.

    Attributes:
        loss: what is minimised.
        identity: what a resumed run must agree with.
        features: of frozen backbones, of this run and of others before it.
        meter: of its speed.
        saved: when the newest checkpoint was written, by the monotonic clock.
        writer: of checkpoints.
        board: where numbers are drawn besides `log.jsonl`.
    """

    plan: TrainPlan
    state: State
    network: Network
    loss: Loss
    identity: Mapping[str, Any]
    record: RunRecord
    stop: Stop
    progress: Progress
    features: FeatureCache
    meter: Meter
    folder: Path | None = None
    saved: float = 0.0
    writer: CheckpointWriter = field(default_factory=CheckpointWriter)
    board: Board | None = None

    @property
    def config(self) -> Config:
        """The config."""
        return self.plan.config

    def begin(self) -> None:
        """Write what stands before the first step; a run that goes on forgets what it is going to do again."""
        if self.folder is None:
            return
        run_record.write_config(self.folder, self.plan)
        if (warning := run_record.little_room(self.folder, self.state.nbytes)) is not None:
            self.progress.warn(warning)
        if self.state.saved is None:
            (self.folder / directory.RESUME).unlink(missing_ok=True)  # of a run that was killed here before
            self.save()
            self.writer.wait()  # a run killed in its first epoch resumes, too, and without a hub
        self.note("running")
        log.rewind(self.folder, self.state.step)
        if self.config.tensorboard:
            self.board = open_board(self.folder, self.state.step)

    def note(self, status: Status) -> None:
        """Write the record as it stands."""
        self.record = run_record.updated(self.record, status, self.state, self.plan)
        if self.folder is not None:
            self.record.save(self.folder)

    def save(self) -> None:
        """Write a checkpoint, in the background."""
        if self.folder is not None:
            self.writer.start(self.folder, self.state, self.identity)
            self.saved = time.monotonic()

    def save_epoch(self) -> None:
        """Write a checkpoint after an epoch; not after each where a head alone learns, sooner than one is written."""
        if not self.config.freeze_backbone or time.monotonic() - self.saved >= PAUSE:
            self.save()

    def log(self, event: str, **values: Any) -> None:
        """Add a line to `log.jsonl`, and draw its numbers."""
        if self.folder is not None:
            log.append(self.folder, event, **values)
        if self.board is not None:
            draw(self.board, event, **values)

    def scored(self, epoch: int, split: str, predictions: Predictions) -> bool:
        """Keep the mAP of an epoch; whether it is the best so far on that split."""
        metrics = write_scores.score(predictions)
        entry = {"epoch": epoch, "split": split, "mAP": metrics.mAP}
        others = [e for e in self.state.history if (e["epoch"], e["split"]) != (epoch, split)]
        self.state.history = [*others, entry]
        self.log("scored", step=self.state.step, **entry)
        shown = "undefined" if metrics.mAP is None else f"{100 * metrics.mAP:.1f} %"
        self.progress.say(f"epoch {epoch}: mAP {shown} on {split}")
        return all((metrics.mAP or 0.0) > (e["mAP"] or 0.0) for e in others if e["split"] == split)

    def finish(self) -> None:
        """Say that the run is finished, and drop the checkpoints that nobody needs any more."""
        if self.board is not None:
            self.board.close()
        self.writer.wait()
        self.note("finished")
        if self.folder is not None:
            for name in (directory.RESUME, directory.RESUME_PREVIOUS):
                (self.folder / name).unlink(missing_ok=True)

    def interrupted(self, number: int) -> Interrupted:
        """What a run ends with that the signal of this number stopped."""
        place = f"stopped at epoch {self.state.epoch + 1}, step {self.state.step}"
        resume = f"{processes.launcher()} train --resume {shlex.quote(str(self.folder))}"
        return Interrupted(f"{place}; resume: {resume}", number)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the seconds of a part of the run."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.state.seconds[part] = self.state.seconds.get(part, 0.0) + time.monotonic() - begun
