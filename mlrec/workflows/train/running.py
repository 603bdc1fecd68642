"""The course of a training run: events of the loop in, files of the run folder out."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.checkpoint import save_model
from mlrec.models.preprocessing import Preprocessing
from mlrec.predictions import Predictions
from mlrec.reports.figures.plots import draw_curves
from mlrec.runs import directory, log
from mlrec.runs.record import Run, RunRecord
from mlrec.training import distributed, setup, state
from mlrec.training.batches import steps_per_epoch, train_batches
from mlrec.training.dataloader import Batch
from mlrec.training.devices import Precision, resolve_device, resolve_precision
from mlrec.training.duration import seconds_per_image, training_seconds
from mlrec.training.failures import explained
from mlrec.training.features import FeatureCache, Features, feature_batches, on_device_if_it_fits
from mlrec.training.loop import Epoch, Event, Steps, fit
from mlrec.training.losses import Loss, loss_function
from mlrec.training.prediction import predict, predict_features
from mlrec.training.throughput import Meter
from mlrec.utils import processes, signals
from mlrec.utils.errors import MlrecError
from mlrec.utils.progress import Progress, Step
from mlrec.utils.signals import SignalReceived
from mlrec.workflows.evaluate import write_scores
from mlrec.workflows.next_steps import quick
from mlrec.workflows.train import run_record
from mlrec.workflows.train.interrupt import deferred_signals
from mlrec.workflows.train.job import Job
from mlrec.workflows.train.lineage import trained_lineage, unknown_origin
from mlrec.workflows.train.plan import TrainPlan

if TYPE_CHECKING:
    import torch

    from mlrec.models.classifier import Classifier

LONG = 600.0  # seconds of training on a CPU that are announced


def run(
    plan: TrainPlan,
    make_folder: Callable[[], Path],
    progress: Progress,
    *,
    command: Sequence[str] = (),
    resumed: RunRecord | None = None,
    features: FeatureCache | None = None,
) -> Run:
    """Train to the end and write the run folder.

    Args:
        plan: what to train, and on what.
        make_folder: called when everything that can be refused beforehand has been.
        progress: where bars, notes and warnings go.
        command: the command line, for the record.
        resumed: the record of the run that is gone on with.
        features: of frozen backbones, from runs before this one.
    """
    config = plan.config
    device, precision, loss = resolve_runtime(plan)
    identity = run_record.identity(plan)
    setup.prepare_process(config, device, precision)
    first = processes.rank() == 0
    with (
        distributed.joined(device), deferred_signals() as stop, explained(config, device, precision),
        ExitStack() as held,
    ):  # fmt: skip
        each = setup.per_process(config)
        spread = f", {each} samples in each of {processes.world_size()} processes" if processes.world_size() > 1 else ""
        progress.say(f"device: {device}, precision {precision}{spread}")
        with distributed.first_on_machine():
            model = setup.build_model(config, plan.train, paper=plan.paper, empty=resumed is not None)
        if resumed is not None:  # where it began with another run's backbone, that is not needed any more
            model.preprocessing = Preprocessing.from_dict(resumed.model["preprocessing"])
        if model.backbone.origin:
            progress.say(f"weights: {model.backbone.origin}")
        training = setup.make_state(model, config, device, precision)
        if resumed is None and device.type == "cpu":
            _announce(plan, model, device, precision, progress)
        folder = make_folder() if first or resumed else None
        if folder is not None and first:
            held.enter_context(directory.locked(folder))
        if resumed is not None and folder is not None:
            was, content = state.load(folder, progress)
            run_record.check_same(was, identity)
            training.restore(content)
            if (
                warning := run_record.other_machine(resumed.environment, run_record.environment(device, precision))
            ) is not None:
                progress.warn(warning)
            if (note := setup.resume_note(config, device)) is not None:
                progress.warn(note)
        network = setup.make_network(training, config, device, precision)
        record = resumed or run_record.started(plan, folder, model, device, precision, command)
        if resumed is None and (warning := unknown_origin(record)) is not None:
            progress.warn(warning)
        store = FeatureCache() if features is None else features
        own = folder if first else None
        meter = Meter.of(model, device, precision, frozen=config.freeze_backbone)
        return _course(Job(plan, training, network, loss, identity, record, stop, progress, store, meter, own))


def resolve_runtime(plan: TrainPlan) -> tuple[torch.device, Precision, Loss]:
    """Device, precision and loss of a run, as `train` uses them and `doctor` checks them.

    Raises:
        UsageError: a device or precision that this machine lacks, or a batch that does not divide into the processes.
        ConfigError: a file of label weights that does not fit.
    """
    device = resolve_device(plan.config.device)
    setup.per_process(plan.config)
    return device, resolve_precision(plan.config.precision, device), loss_function(plan.config, plan.train)


def _announce(
    plan: TrainPlan, model: Classifier, device: torch.device, precision: Precision, progress: Progress
) -> None:
    """Warn how long a training of the whole model will take on a CPU if it is long, with the quick alternative."""
    config = plan.config
    if config.freeze_backbone:
        return
    scorings = config.epochs // config.eval_every if config.eval_every else 1
    each = seconds_per_image(model, device, precision)
    seconds = (
        training_seconds(each, len(plan.train), len(plan.scored), config.epochs, scorings) / processes.world_size()
    )
    if seconds < LONG:
        return
    same = f"mlrec train --data {shlex.quote(str(plan.dataset.path))} --train-split {shlex.quote(plan.train.split)}"
    progress.warn(
        f"training {config.backbone} at {config.img_size} px on this CPU takes about {run_record.duration(seconds)} "
        f"({each:.2g} s per image forward); in minutes: {quick(f'{same} --split {shlex.quote(plan.scored.split)}')}"
    )


def _course(job: Job) -> Run:
    """Train, score and write; whatever the end, the record says how it came."""
    try:
        job.begin()
        predictions = _train(job)
        if job.folder is not None:
            _write(job, job.folder, predictions)
        job.finish()
    except SignalReceived as signalled:
        signals.handled()
        job.writer.wait()
        job.note("interrupted")
        raise job.interrupted(signalled.args[0]) from None
    except BaseException:
        with suppress(MlrecError):  # the first error is the one to report
            job.writer.wait()
        job.note("failed")
        raise
    return Run(job.folder or Path(), job.record)


def _train(job: Job) -> Predictions:
    """The epochs; returns the predictions of the last one on the scored split."""
    config = job.config
    steps = steps_per_epoch(len(job.plan.train), config.batch_size, processes.world_size())
    with closing(cast(Generator[Batch], _batches(job))) as batches:
        names = job.plan.train.sample_ids
        events = fit(
            job.state, job.network, batches, job.loss, config, steps_per_epoch=steps, sample_ids=names,
            stopping=lambda: job.stop.number is not None,
        )  # fmt: skip
        number = job.state.epoch + 1
        while True:
            epoch = _epoch(job, events, steps, number)
            job.save_epoch()
            predictions = _score(job, epoch)
            if predictions is not None:
                return predictions
            number += 1


def _epoch(job: Job, events: Iterator[Event], steps_per_epoch: int, number: int) -> Epoch:
    """The steps up to the end of an epoch, shown and logged, saved where that is due.

    `number` counts from 1. The state cannot give it here: it counts an epoch when the next one begins, so that a
    checkpoint written between two epochs is scored again after a resume.

    Raises:
        Signalled: a signal came; the step it came in is done and saved.
    """
    config = job.config
    with job.progress.task(f"epoch {number}/{config.epochs}", len(job.plan.train)) as advance:
        while True:
            with job.timed("train"):
                event = next(events)
            if isinstance(event, Epoch):
                job.log("epoch", epoch=event.epoch + 1, step=event.step, loss=event.loss)
                return event
            _tell(job, event, advance, steps_per_epoch)
            if event.stopped or (config.save_every and event.step % config.save_every == 0):
                job.save()
            if event.stopped:
                raise SignalReceived(job.stop.number or signal.SIGTERM)  # where another process was told


def _tell(job: Job, event: Steps, advance: Step, steps_per_epoch: int) -> None:
    """Show and log some steps."""
    each = job.state.seconds["train"] / event.step
    left = run_record.duration(each * (job.config.epochs * steps_per_epoch - event.step))
    speed = job.config.batch_size / each
    facts = f"loss {event.loss:.4f}, lr {event.lr:.2g}, {speed:.1f} images/s, run {left} left"
    advance(event.samples * processes.world_size(), facts)
    job.log(
        "steps", epoch=event.epoch + 1, step=event.step, loss=run_record.number(event.loss), lr=event.lr,
        grad_norm=run_record.number(event.grad_norm), **job.meter.entry(speed, event.waited),
    )  # fmt: skip


def _batches(job: Job) -> Iterator[Batch]:
    """Batches from where the state stands to the end, of images or of a frozen backbone's features."""
    config, place = job.config, {"epoch": job.state.epoch, "start": job.state.batch}
    place |= {"epochs": config.epochs - job.state.epoch, "rank": processes.rank(), "world": processes.world_size()}
    if config.freeze_backbone:
        features = on_device_if_it_fits(_features(job, job.plan.train, config), job.network.device)
        return feature_batches(features, config, **place)
    return train_batches(
        job.plan.train, config, job.state.model.preprocessing, progress=job.progress, device=job.network.device, **place
    )


def _features(job: Job, manifest: Manifest, config: Config) -> Features:
    """What the frozen backbone makes of a split, computed if no run did so before."""
    with job.timed("features"), job.stop.at_once():
        return job.features.of(
            job.state.model, manifest, config, device=job.network.device, precision=_precision(job),
            progress=job.progress,
        )  # fmt: skip


def _score(job: Job, event: Epoch) -> Predictions | None:
    """Score what is due after an epoch; the scored split's predictions when this epoch is the last."""
    plan, config, epoch = job.plan, job.config, event.epoch + 1
    last = epoch == config.epochs
    due = last or bool(config.eval_every and epoch % config.eval_every == 0)
    if plan.select is not None and (due or not config.eval_every):
        better = job.scored(epoch, plan.select.split, _predict(job, plan.select))
        if better and job.folder is not None:
            save_model(
                job.folder / directory.BEST, job.state.scored, run_record.plain(config), trained_lineage(job.record)
            )
        last = last or run_record.patience_is_out(job.state.history, plan)
    if not (due or last):
        return None
    predictions = _predict(job, plan.scored)
    job.scored(epoch, plan.scored.split, predictions)
    return predictions if last else None


def _predict(job: Job, manifest: Manifest) -> Predictions:
    config, model = job.config, job.state.scored
    size = config.eval_batch_size or setup.per_process(config)
    if config.freeze_backbone:
        plain = _features(job, manifest, msgspec.structs.replace(config, feature_copies=0, eval_batch_size=size))
        with job.timed("eval"):
            return predict_features(model, plain, batch_size=size)
    job.writer.wait()  # loader processes are forked now: no thread may hold a lock meanwhile
    with job.timed("eval"), job.stop.at_once():
        predictions = predict(
            model, manifest, batch_size=size, workers=config.workers, device=str(job.network.device),
            precision=_precision(job), decode=config.decode, progress=job.progress,
            rank=processes.rank(), world=processes.world_size(), batch_flag="--eval-batch-size",
        )  # fmt: skip
    setup.lay_out(model, config)
    return predictions


def _precision(job: Job) -> Precision:
    """The precision of the backbone; the network that trains is a head in float32 if the backbone is frozen."""
    return resolve_precision(job.config.precision, job.network.device)


def _write(job: Job, folder: Path, predictions: Predictions) -> None:
    """The files of a run that has come to its end."""
    write_scores.write_scores(folder, predictions, write_scores.score(predictions))
    if predictions.targets is not None:
        write_scores.warn_undefined(predictions.targets, predictions.labels, job.progress)
    save_model(folder / directory.MODEL, job.state.scored, run_record.plain(job.config), trained_lineage(job.record))
    draw_curves(log.entries(folder), folder / directory.CURVES)
