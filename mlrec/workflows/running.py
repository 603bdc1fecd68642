"""The course of a training run: events of the loop in, files of the run folder out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec

from mlrec import processes
from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.result import Metrics
from mlrec.models.checkpoint import save_model
from mlrec.predictions import Predictions
from mlrec.progress import Progress, Step
from mlrec.runs import directory, log
from mlrec.runs.record import Run, RunRecord
from mlrec.training import distributed, setup, state
from mlrec.training.batches import steps_per_epoch, train_batches
from mlrec.training.board import Board, draw, open_board
from mlrec.training.curves import draw_curves
from mlrec.training.devices import resolve_device, resolve_precision
from mlrec.training.failures import explained
from mlrec.training.features import Features, FeatureStore, feature_batches
from mlrec.training.loading import Batch
from mlrec.training.loop import Epoch, Network, Steps, fit
from mlrec.training.losses import loss_function
from mlrec.training.scoring import predict, predict_features
from mlrec.training.state import State
from mlrec.workflows import outputs, records
from mlrec.workflows.defaults import Plan
from mlrec.workflows.interrupt import Interrupted, Stop, Stopped, deferred_signals


@dataclass
class Job:
    """A run under way in this process; only the first of several processes has a `folder`."""

    plan: Plan
    state: State
    network: Network
    record: RunRecord
    stop: Stop
    progress: Progress
    folder: Path | None = None
    features: FeatureStore = field(default_factory=FeatureStore)
    board: Board | None = None
    begun: float = field(default_factory=time.monotonic)


def run(
    plan: Plan,
    make_folder: Callable[[], Path],
    progress: Progress,
    *,
    command: Sequence[str] = (),
    resumed: RunRecord | None = None,
    features: FeatureStore | None = None,
) -> Run:
    """Train to the end and write the run folder.

    Args:
        plan: what to train, and on what.
        make_folder: called when everything that can be refused beforehand has been.
        progress: where bars, notes and warnings go.
        command: the command line, for the record.
        resumed: the record of the run that is gone on with.
        features: of frozen trunks, from runs before this one.
    """
    config = plan.config
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    setup.prepare_process(config, device, precision)
    first = processes.rank() == 0
    with distributed.joined(device), deferred_signals() as stop, contextlib.ExitStack() as stack:
        each = setup.per_process(config)
        spread = f", {each} samples in each of {processes.world()} processes" if processes.world() > 1 else ""
        progress.say(f"device: {device}, precision {precision}{spread}")
        model = setup.build_model(config, plan.train, paper=plan.paper, empty=resumed is not None)
        training = setup.make_state(model, config, device, precision)
        identity = records.identity(plan, processes.world())
        folder = make_folder() if first or resumed else None
        if folder is not None and first:
            stack.enter_context(directory.locked(folder))
        if resumed is not None and folder is not None:
            was, content = state.load(folder, progress)
            records.check_same(was, identity)
            training.restore(content)
        network = setup.make_network(training, config, device, precision)
        record = resumed or records.started(plan, folder, model, device, precision, command)
        job = Job(plan, training, network, record, stop, progress, folder if first else None)
        job.features = features or job.features
        return _course(job, identity)


def _course(job: Job, identity: dict[str, Any]) -> Run:
    """Train, score and write; whatever the end, the record says how it came."""
    _write_record(job, "running")
    if job.folder is not None:
        records.write_config(job.folder, job.plan)
        log.rewind(job.folder, job.state.step)
        if (warning := records.little_room(job.folder, job.state.nbytes)) is not None:
            job.progress.warn(warning)
        if job.plan.config.tensorboard:
            job.board = open_board(job.folder, job.state.step)
        if job.state.saved is None:
            _save(job, identity)  # a run killed in its first epoch resumes, too, and without a hub
    try:
        with explained(job.plan.config, job.network.device, job.network.precision):
            predictions = _train(job, identity)
        _finish(job, predictions)
    except Stopped:
        _write_record(job, "interrupted")
        raise _interrupted(job) from None
    except BaseException:
        _write_record(job, "failed")
        raise
    return Run(job.folder or Path(), job.record)


def _train(job: Job, identity: dict[str, Any]) -> Predictions:
    """The epochs; returns the predictions of the last one on the scored split."""
    config, training = job.plan.config, job.state
    steps = steps_per_epoch(len(job.plan.train), config.batch_size, processes.world())
    loss = loss_function(config, job.plan.train)
    with contextlib.closing(cast(Generator[Batch], _batches(job))) as batches, contextlib.ExitStack() as bar:
        events = fit(training, job.network, batches, loss, config, steps_per_epoch=steps)
        advance: Step | None = None
        while True:
            with _timed(training, "train"):
                event = next(events)
            if isinstance(event, Steps):
                if advance is None:
                    name = f"epoch {event.epoch + 1}/{config.epochs}"
                    advance = bar.enter_context(job.progress.task(name, len(job.plan.train)))
                _told(job, event, advance, steps)
                if config.save_every and event.step % config.save_every == 0:
                    _save(job, identity)
                if distributed.any_process(job.stop.number is not None, job.network.device):
                    bar.close()
                    _save(job, identity)
                    raise Stopped
                continue
            bar.close()
            advance = None
            _save(job, identity)
            predictions = _score_epoch(job, event)
            if predictions is not None:
                return predictions


def _batches(job: Job) -> Iterator[Batch]:
    """Batches from where the state stands to the end, of images or of a frozen trunk's features."""
    plan, training, config = job.plan, job.state, job.plan.config
    place = {
        "epoch": training.epoch, "start": training.batch, "epochs": config.epochs - training.epoch,
        "rank": processes.rank(), "world": processes.world(),
    }  # fmt: skip
    if not config.freeze_backbone:
        return train_batches(plan.train, config, training.model.preprocessing, progress=job.progress, **place)
    return feature_batches(_features(job, plan.train, config), config, **place)


def _features(job: Job, manifest: Manifest, config: Config) -> Features:
    """What the frozen trunk makes of a split, computed if no run did so before."""
    with _timed(job.state, "features"), job.stop.at_once():
        return job.features.of(
            job.state.model, manifest, config, device=job.network.device, precision=job.network.precision,
            progress=job.progress,
        )  # fmt: skip


def _score_epoch(job: Job, event: Epoch) -> Predictions | None:
    """Score what is due after an epoch; the scored split's predictions when this epoch is the last."""
    plan, config, number = job.plan, job.plan.config, event.epoch + 1
    _log(job, "epoch", epoch=number, step=event.step, loss=event.loss)
    due = bool(config.eval_every and number % config.eval_every == 0)
    if plan.select is not None and (due or not config.eval_every or number == config.epochs):
        better = _note(job, number, plan.select, _predict(job, plan.select))
        if better and job.folder is not None:
            save_model(job.folder / directory.BEST, job.state.scored, records.plain(config))
    last = number == config.epochs or records.patience_is_out(job.state.history, plan)
    if not (due or last):
        return None
    predictions = _predict(job, plan.scored)
    _note(job, number, plan.scored, predictions)
    return predictions if last else None


def _predict(job: Job, manifest: Manifest) -> Predictions:
    config, model = job.plan.config, job.state.scored
    distributed.same_buffers(model)
    size = config.eval_batch_size or setup.per_process(config)
    if config.freeze_backbone:
        plain = _features(job, manifest, msgspec.structs.replace(config, feature_copies=0, eval_batch_size=size))
        with _timed(job.state, "eval"):
            return predict_features(model, plain, batch_size=size)
    with _timed(job.state, "eval"), job.stop.at_once():
        predictions = predict(
            model, manifest, batch_size=size, workers=config.workers, device=str(job.network.device),
            precision=job.network.precision, decode=config.decode, progress=job.progress,
            rank=processes.rank(), world=processes.world(),
        )  # fmt: skip
    setup.lay_out(model, config)
    return predictions


def _note(job: Job, epoch: int, manifest: Manifest, predictions: Predictions) -> bool:
    """Keep the mAP of an epoch in state and log; whether it is the best so far on that split."""
    metrics = outputs.score(predictions)
    earlier = [e["mAP"] or 0.0 for e in job.state.history if e["split"] == manifest.split and e["epoch"] < epoch]
    entry = {"epoch": epoch, "split": manifest.split, "mAP": metrics.mAP}
    same = [e for e in job.state.history if (e["epoch"], e["split"]) == (epoch, manifest.split)]
    job.state.history = [e for e in job.state.history if e not in same] + [entry]
    _log(job, "scored", step=job.state.step, **entry)
    job.progress.say(f"epoch {epoch}: {_shown(metrics)} on {manifest.split}")
    return all((metrics.mAP or 0.0) > value for value in earlier)


def _finish(job: Job, predictions: Predictions) -> None:
    """The files of a finished run, its record last."""
    if job.folder is None:
        return
    metrics = outputs.score(predictions)
    outputs.write_scores(job.folder, predictions, metrics)
    save_model(job.folder / directory.MODEL, job.state.scored, records.plain(job.plan.config))
    draw_curves(log.entries(job.folder), job.folder / directory.CURVES)
    if job.board is not None:
        job.board.close()
    _write_record(job, "finished")
    for name in (directory.RESUME, directory.RESUME_PREVIOUS):
        (job.folder / name).unlink(missing_ok=True)


def _write_record(job: Job, status: Any) -> None:
    job.record = records.updated(job.record, status, job.state, job.plan)
    if job.folder is not None:
        job.record.save(job.folder)


def _save(job: Job, identity: dict[str, Any]) -> None:
    if job.folder is not None:
        state.save(job.folder, job.state, identity)


def _told(job: Job, event: Steps, advance: Step, steps_per_epoch: int) -> None:
    """Log and show some steps."""
    rate = job.state.seconds.get("train", 0.0) / max(1, event.step)
    left = rate * (job.plan.config.epochs * steps_per_epoch - event.step)
    speed = job.plan.config.batch_size / rate if rate else 0.0
    facts = f"loss {event.loss:.4f}, lr {event.lr:.2g}, {speed:.1f} images/s, run {records.duration(left)} left"
    advance(event.samples * processes.world(), facts)
    _log(
        job, "steps", epoch=event.epoch + 1, step=event.step, loss=records.number(event.loss), lr=event.lr,
        grad_norm=records.number(event.grad_norm), images_per_second=round(speed, 2),
    )  # fmt: skip


def _log(job: Job, event: str, **values: Any) -> None:
    if job.folder is not None:
        log.append(job.folder, event, **values)
    if job.board is not None:
        draw(job.board, event, **values)


def _shown(metrics: Metrics) -> str:
    return "mAP undefined" if metrics.mAP is None else f"mAP {100 * metrics.mAP:.1f} %"


def _interrupted(job: Job) -> Interrupted:
    place = f"stopped at epoch {job.state.epoch + 1}, step {job.state.step}"
    return Interrupted(f"{place}; resume: mlrec train --resume {job.folder}", job.stop.number or 15)


@contextlib.contextmanager
def _timed(training: State, part: str) -> Iterator[None]:
    begun = time.monotonic()
    try:
        yield
    finally:
        training.seconds[part] = training.seconds.get(part, 0.0) + time.monotonic() - begun
