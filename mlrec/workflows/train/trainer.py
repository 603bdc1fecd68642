"""`Trainer`: one training run, from the plan to the files in the run folder.

The methods are grouped by phase: setup, training, evaluation, and writing of files.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from mlrec.datasets.manifest import Manifest
from mlrec.models.checkpoint import save_model
from mlrec.models.preprocessing import Preprocessing
from mlrec.predictions import Predictions
from mlrec.run_folders import directory
from mlrec.run_folders.record import Run, RunRecord, Status, environment, metrics_of, warn_undefined, write_scores
from mlrec.training import distributed, setup, state
from mlrec.training.dataloader import Batch, steps_per_epoch, train_batches
from mlrec.training.devices import explained
from mlrec.training.loop import Epoch, Event, Network, Steps, fit
from mlrec.training.prediction import InferenceOptions, predict, predict_features
from mlrec.training.state import CheckpointWriter, EpochScore, State
from mlrec.training.throughput import Meter, seconds_per_image, training_seconds
from mlrec.utils import processes, signals
from mlrec.utils.errors import MlrecError
from mlrec.utils.progress import Progress, RunProgress, Step
from mlrec.utils.signals import SignalReceived, Stop, deferred_signals
from mlrec.workflows.train import run_record
from mlrec.workflows.train.run_record import CallbackFailed, Callbacks

if TYPE_CHECKING:
    from mlrec.models.classifier import Classifier
    from mlrec.training.features import FeatureCache, Features
    from mlrec.training.trackers import TrackerGroup
    from mlrec.workflows.train.train import TrainPlan


logger = logging.getLogger(__name__)
HEAD_SAVE_INTERVAL = 5.0  # seconds between checkpoints after epochs with a frozen backbone; an epoch may take less
LONG_TRAINING = 600.0  # seconds of training on a CPU from which a warning gives the estimate


class Trainer:
    """Trainer for one run, with all steps from setup to the final record.

    `run` calls `run_explained`, which calls `setup`, `start`, `train` and `finish`. For each epoch, `train` calls
    `train_epoch`, `save_epoch_checkpoint` and `evaluate`.
    With multiple processes, each process has a trainer, but only the first trainer has a folder and writes files.

    Args:
        plan: Config, dataset and splits.
        progress: Progress display.
        out: Parent folder, in which the folder of a new run is created.
        name: Name of the new folder [default: dataset, backbone, head and a number].
        command: Command line, stored in the record.
        resumed: Run to resume; its folder is reused.
        features: Cache of features from frozen backbones, shared with other runs.
        callbacks: User callbacks.

    Raises:
        UsageError: The device or precision is not available, or the batch size is not divisible by the number of
            processes.
        ConfigError: The loss cannot be used with the config or the targets, or the `pos_weight` file is invalid.
    """

    # Set by `setup`.
    state: State
    network: Network
    meter: Meter
    record: RunRecord

    def __init__(
        self,
        plan: TrainPlan,
        progress: Progress,
        *,
        out: Path = Path("runs"),
        name: str | None = None,
        command: Sequence[str] = (),
        resumed: Run | None = None,
        features: FeatureCache | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        self.plan, self.config, self.progress = plan, plan.config, progress
        self.out, self.name, self.command = out, name, command
        self.resumed = resumed
        self.features = features
        self.device, self.precision, self.loss = setup.resolve_runtime(plan.config, plan.train)
        self.identity = run_record.identity(plan)
        self.stop = Stop()
        self.writer = CheckpointWriter()
        self.folder: Path | None = None  # stays None in all processes but the first
        self.trackers: TrackerGroup | None = None
        self.callbacks = callbacks or Callbacks()
        self.logged_seconds = 0.0  # seconds of training in the lines of the log so far
        self.saved_at = 0.0  # when the newest checkpoint was written, by the monotonic clock

    def run(self) -> Run:
        """Train until the last epoch, or until training stops early, and write the run folder.

        Raises:
            MlrecError: The data, weights or machine cannot be used for the run, or the loss is NaN or infinite.
            Interrupted: SIGINT or SIGTERM was received; the run can be resumed.
            Exception: A callback raised this exception. The run can be resumed, except after `on_end`.
        """
        try:
            scores = self.run_explained()
            self.notify("on_end", metrics=scores)
        except CallbackFailed as failed:
            raise failed.error from None
        return Run(self.folder or Path(), self.record)

    def run_explained(self) -> dict[str, float]:
        """Train, convert errors to readable messages, and return the metrics on the scored split."""
        setup.prepare_process(self.config, self.device, self.precision, len(self.plan.train))
        with (
            distributed.joined(self.device),
            deferred_signals() as self.stop,
            explained(self.config, self.device, self.precision),
            ExitStack() as folder_lock,
        ):
            self.setup(folder_lock)
            try:
                self.start()
                return self.finish(self.train())
            except SignalReceived as received:
                signals.handled()
                self.end("interrupted")
                raise run_record.interrupted(self.folder, self.state.epoch, self.state.step, received.args[0]) from None
            except BaseException as error:
                with suppress(MlrecError):  # the first error is the one to report
                    if isinstance(error, CallbackFailed):  # it comes between two steps, when the state is complete
                        self.save_checkpoint()
                    self.writer.wait()
                self.end("failed")
                raise

    # Setup: from the plan to a model on its device and a locked run folder.

    def setup(self, folder_lock: ExitStack) -> None:
        """Build the model, optimizer and network, open the run folder, and load the checkpoint of a resumed run.

        Args:
            folder_lock: `ExitStack` that holds the lock of the run folder until the run ends.
        """
        config, device, precision = self.config, self.device, self.precision
        samples, world = setup.per_process(config), processes.world_size()
        share = ""
        if world > 1:
            share = f", {samples} samples in each of {world} processes"
        logger.info(f"device: {device}, precision {precision}{share}")

        # 1. The model. A resumed run fills it from its checkpoint, so its starting weights need not exist any more.
        with distributed.first_on_machine():  # one process downloads weights, the others find them in the cache
            model = setup.build_model(config, self.plan.train, paper=self.plan.paper, empty=self.resumed is not None)
        if self.resumed is not None:
            model.preprocessing = Preprocessing.from_dict(self.resumed.record.model["preprocessing"])
        if model.backbone.origin:
            logger.info(f"weights: {model.backbone.origin}")

        # 2. Optimizer, gradient scaler and averaged weights.
        self.state = setup.make_state(model, config, device, precision)
        if self.resumed is None:
            self.warn_long_training(model)

        # 3. The folder, made only now: what can be refused was refused before.
        folder = self.open_folder()
        if processes.rank() == 0 and folder is not None:
            folder_lock.enter_context(directory.locked(folder))
            self.folder = folder

        # 4. The checkpoint. All processes read it.
        if self.resumed is not None and folder is not None:
            self.restore(folder, self.resumed.record)

        # 5. What depends on the final weights and the folder.
        self.network = setup.make_network(self.state, config, device, precision)
        if self.resumed is not None:
            self.record = self.resumed.record
        else:
            self.record = run_record.started(self.plan, folder, model, device, precision, self.command)
            self.warn(run_record.unknown_origin(self.record))
        self.meter = Meter.of(model, device, precision, frozen=config.freeze_backbone)

    def open_folder(self) -> Path | None:
        """Return the folder of the run; a new folder is created only by the first process."""
        if self.resumed is not None:
            return self.resumed.path
        if processes.rank() != 0:
            return None
        stem = f"{self.plan.dataset.info.name}-{self.config.backbone}-{self.config.head}".replace("/", "-")
        return directory.new_run(self.out, self.name, stem)

    def restore(self, folder: Path, record: RunRecord) -> None:
        """Restore the latest checkpoint of a run, and warn if the resumed run will not be bit-exact."""
        saved_identity, content = state.load(folder)
        run_record.check_same(saved_identity, self.identity)
        self.state.restore(content)
        self.warn(run_record.other_machine(record.environment, environment(self.device, self.precision)))
        self.warn(setup.resume_note(self.config, self.device))

    def warn_long_training(self, model: Classifier) -> None:
        """Warn if training the whole model on this CPU would take a long time; `mlrec fit` has its own forecast."""
        config, plan = self.config, self.plan
        if self.device.type != "cpu" or config.freeze_backbone or isinstance(self.progress, RunProgress):
            return
        evaluations = config.epochs // config.eval_every if config.eval_every else 1
        per_image = seconds_per_image(model, self.device, self.precision)
        seconds = training_seconds(per_image, len(plan.train), len(plan.scored), config.epochs, evaluations)
        seconds /= processes.world_size()
        if seconds >= LONG_TRAINING:
            from mlrec.workflows.next_steps import long_training

            logger.warning(long_training(plan, seconds, per_image))

    def start(self) -> None:
        """Write the files required before the first step, and rewind the log of a resumed run."""
        if self.folder is None:
            return
        run_record.write_config(self.folder, self.plan)
        self.warn(run_record.little_room(self.folder, self.state.nbytes))
        if self.state.saved is None:
            (self.folder / directory.RESUME).unlink(missing_ok=True)  # of a run that was killed here before
            self.save_checkpoint()
            self.writer.wait()  # a run that is killed in its first epoch can be resumed, also without a model hub
        self.save_record("running")
        directory.rewind_log(self.folder, self.state.step)
        if self.config.trackers or self.config.tensorboard:
            from mlrec.training.trackers import TrackedRun, TrackerGroup, tracker_names

            run = TrackedRun(self.folder, self.record.config, self.state.step)
            self.trackers = TrackerGroup(tracker_names(self.config), run, logger.warning)

    # Training: epochs of steps, each followed by a checkpoint and, when due, an evaluation.

    def train(self) -> Predictions:
        """Run the remaining epochs, and return the predictions on the scored split after the last one."""
        steps = steps_per_epoch(len(self.plan.train), self.config.batch_size, processes.world_size())
        if self.config.head_epochs and self.state.step == 0:  # a run that was interrupted in this phase repeats it
            from mlrec.training.head_phase import train_head

            parts = self.state, self.plan.train, self.config, self.loss, self.device, self.precision, self.progress
            with self.timed("head"), self.stop.at_once():
                train_head(*parts)
        self.logged_seconds = self.state.seconds.get("train", 0.0)
        with closing(cast(Generator[Batch], self.batches())) as batches:
            events = fit(
                self.state,
                self.network,
                batches,
                self.loss,
                self.config,
                steps_per_epoch=steps,
                sample_ids=self.plan.train.sample_ids,
                stopping=lambda: self.stop.number is not None,
            )
            # The state counts an epoch when the next one begins, so that a run that was interrupted between two
            # epochs evaluates the first of them after it is resumed.
            epoch = self.state.epoch + 1
            while True:
                loss = self.train_epoch(events, epoch, steps)
                self.save_epoch_checkpoint()
                predictions = self.evaluate(epoch)
                self.notify("on_epoch", loss=loss, metrics=run_record.scores_after(epoch, self.state))
                if predictions is not None:
                    return predictions
                epoch += 1

    def batches(self) -> Iterator[Batch]:
        """Return batches of images or frozen features, from the current position to the last epoch."""
        config, start = self.config, self.state
        position = {"epoch": start.epoch, "start": start.batch, "epochs": config.epochs - start.epoch}
        position |= {"rank": processes.rank(), "world": processes.world_size()}
        if config.freeze_backbone:
            from mlrec.training.features import feature_batches, on_device_if_it_fits

            features = on_device_if_it_fits(self.backbone_features(self.plan.train), self.device)
            return feature_batches(features, config, **position)
        images, preprocessing = self.plan.train, start.model.preprocessing
        return train_batches(images, config, preprocessing, device=self.device, **position)

    def train_epoch(self, events: Iterator[Event], epoch: int, steps_per_epoch: int) -> float:
        """Run the remaining steps of an epoch, log progress, and save every `save_every` steps.

        Returns:
            Mean loss over the epoch.

        Raises:
            SignalReceived: A signal was received; the current step is finished and saved.
        """
        with self.progress.task(f"epoch {epoch}/{self.config.epochs}", len(self.plan.train)) as advance:
            while True:
                with self.timed("train"):
                    event = next(events)
                if isinstance(event, Epoch):
                    self.log("epoch", epoch=epoch, step=event.step, loss=event.loss)
                    return event.loss
                self.report_steps(event, advance, steps_per_epoch)
                if event.stopped or (self.config.save_every and event.step % self.config.save_every == 0):
                    self.save_checkpoint()
                if event.stopped:  # without a number, another process received the signal
                    raise SignalReceived(self.stop.number or signal.SIGTERM)
                self.notify("on_step", epoch=epoch, step=event.step, loss=event.loss, lr=event.lr, metrics={})

    def report_steps(self, steps: Steps, advance: Step, steps_per_epoch: int) -> None:
        """Show and log the loss, learning rate, speed and remaining time.

        The progress bar shows the mean speed since the start. The log contains the mean speed since the previous
        report.
        """
        seconds = self.state.seconds["train"]
        seconds_per_step = seconds / steps.step
        steps_left = self.config.epochs * steps_per_epoch - steps.step
        images_per_second = self.config.batch_size / seconds_per_step
        left = run_record.duration(seconds_per_step * steps_left)
        images = steps.samples * processes.world_size()
        rate = images / (seconds - self.logged_seconds)
        self.logged_seconds = seconds
        advance(
            images,
            f"loss {steps.loss:.4f}, lr {steps.lr:.2g}, {images_per_second:.1f} images/s, run {left} left",
        )
        self.log(
            "steps",
            epoch=steps.epoch + 1,
            step=steps.step,
            loss=directory.finite_or_none(steps.loss),
            lr=steps.lr,
            grad_norm=directory.finite_or_none(steps.grad_norm),
            **self.meter.entry(rate, steps.waited),
        )

    # Evaluation.

    def evaluate(self, epoch: int) -> Predictions | None:
        """Run the evaluations that are due after an epoch.

        If training ends after this epoch, returns the predictions on the scored split; otherwise, returns None.

        If there is a selection split, it determines the best epoch, whose weights are written. If `patience` is also
        set, the selection split determines when training stops early.
        """
        plan, config = self.plan, self.config
        last = epoch == config.epochs
        due = last or bool(config.eval_every and epoch % config.eval_every == 0)
        if plan.select is not None and (due or not config.eval_every):
            best = self.add_score(epoch, plan.select.split, self.predict(plan.select))
            if best:
                self.save_model(directory.BEST)
            last = last or run_record.patience_is_out(self.state.history, plan)
        if not (due or last):
            return None
        predictions = self.predict(plan.scored)
        self.add_score(epoch, plan.scored.split, predictions)
        if last:
            return predictions
        return None

    def predict(self, manifest: Manifest) -> Predictions:
        """Compute the logits for a split with the scored model (trained or averaged weights)."""
        config, model = self.config, self.state.scored
        batch_size = setup.eval_batch_size(config, self.device)
        if config.freeze_backbone:
            features = self.backbone_features(manifest, feature_copies=0, eval_batch_size=batch_size)
            with self.timed("eval"):
                return predict_features(model, features, batch_size=batch_size)
        self.writer.wait()  # loader processes are forked now: no thread may hold a lock meanwhile
        with self.timed("eval"), self.stop.at_once():
            options = InferenceOptions(
                batch_size=batch_size,
                workers=config.workers,
                device=str(self.device),
                precision=self.precision,
                decode=config.image_backend,
                rank=processes.rank(),
                world=processes.world_size(),
                batch_flag="--eval-batch-size",
            )
            predictions = predict(model, manifest, options, self.progress)
        setup.lay_out(model, config)  # prediction changed the memory format
        return predictions

    def backbone_features(self, manifest: Manifest, **changes: int) -> Features:
        """Return the frozen-backbone features for a split, from the cache if possible.

        The config keys in `changes` override the config of the run.
        """
        from mlrec.training.features import FeatureCache

        config = msgspec.structs.replace(self.config, **changes)
        if self.features is None:
            self.features = FeatureCache()
        with self.timed("features"), self.stop.at_once():
            return self.features.get_or_compute(
                self.state.model,
                manifest,
                config,
                device=self.device,
                precision=self.precision,
                progress=self.progress,
            )

    def add_score(self, epoch: int, split: str, predictions: Predictions) -> bool:
        """Add the mAP of an epoch to the history and the log; return whether this is the best mAP so far."""
        mAP = metrics_of(predictions).mAP
        entry = EpochScore(epoch, split, mAP)
        others = [score for score in self.state.history if (score.epoch, score.split) != (epoch, split)]
        self.state.history = [*others, entry]
        self.log("scored", step=self.state.step, **asdict(entry))
        shown = "undefined"
        if mAP is not None:
            shown = f"{100 * mAP:.1f}%"
        logger.info(f"epoch {epoch}: mAP {shown} on {split}")
        return all((mAP or 0.0) > (score.mAP or 0.0) for score in others if score.split == split)

    # Files of the run folder. Only the first process has one.

    def save_checkpoint(self) -> None:
        """Write a checkpoint in the background."""
        if self.folder is not None:
            self.writer.start(self.folder, self.state, msgspec.to_builtins(self.identity))
            self.saved_at = time.monotonic()

    def save_epoch_checkpoint(self) -> None:
        """Write a checkpoint after an epoch, unless only a head is trained and the last checkpoint is recent."""
        if not self.config.freeze_backbone or time.monotonic() - self.saved_at >= HEAD_SAVE_INTERVAL:
            self.save_checkpoint()

    def save_model(self, name: str) -> None:
        """Write the scored model as a weights file with config and lineage."""
        if self.folder is not None:
            values = run_record.plain(self.config)
            save_model(self.folder / name, self.state.scored, values, run_record.trained_lineage(self.record))

    def save_record(self, status: Status) -> None:
        """Write `run.json` with the current status, times and best epoch."""
        self.record = run_record.updated(self.record, status, self.state, self.plan)
        if self.folder is not None:
            self.record.save(self.folder)

    def log(self, event: str, **values: Any) -> None:
        """Add a line to `log.jsonl`, and send the numbers to the trackers."""
        if self.folder is not None:
            directory.append_event(self.folder, event, **values)
        if self.trackers is not None:
            self.trackers.log(event, **values)

    def notify(self, method: str, **facts: Any) -> None:
        """Call the callbacks, but only in the first process."""
        if self.folder is not None:
            self.callbacks.call(method, run=self.folder, **facts)

    def finish(self, predictions: Predictions) -> dict[str, float]:
        """Write scores, weights, learning curves and the final record; delete the checkpoints."""
        metrics = metrics_of(predictions, trained_on=self.plan.train)
        means = run_record.means(metrics)
        if self.folder is not None:
            write_scores(self.folder, predictions, metrics)
            if predictions.targets is not None:
                warn_undefined(predictions.targets, predictions.labels)
            self.save_model(directory.MODEL)
            directory.draw_curves(self.folder)
            if self.trackers is not None:
                self.trackers.log("final", step=self.state.step, **means)
                self.trackers.picture(self.state.step, "curves", self.folder / directory.CURVES)
        self.end("finished")
        if self.folder is not None:
            for name in (directory.RESUME, directory.RESUME_PREVIOUS):
                (self.folder / name).unlink(missing_ok=True)
        return {f"{self.plan.scored.split}/{name}": value for name, value in means.items()}

    def end(self, status: Status) -> None:
        """Finish all pending writes, and store the status of the run."""
        self.writer.wait()
        self.save_record(status)
        if self.trackers is not None:
            self.trackers.finish(status)

    def warn(self, warning: str | None) -> None:
        """Log a warning; do nothing if the warning is None."""
        if warning is not None:
            logger.warning(warning)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Context manager that adds the duration of the `with` block to the total time of `part`."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.state.seconds[part] = self.state.seconds.get(part, 0.0) + time.monotonic() - started
