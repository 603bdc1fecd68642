"""Training loop `fit`, which yields events after steps and epochs.

The caller handles the events: it logs, evaluates and saves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from mlrec.config import Config
from mlrec.training import distributed
from mlrec.training.dataloader import Batch
from mlrec.training.devices import Precision, autocast
from mlrec.training.losses import Loss
from mlrec.training.optimizer import lr_at, set_lr, trainable
from mlrec.training.state import State
from mlrec.utils import processes
from mlrec.utils.errors import RunError, first_of

SYNC_EVERY = 20  # steps between fetches of losses from a GPU; each fetch waits for the GPU
MAX_SKIPPED = 50  # maximum number of consecutive steps that an fp16 scaler may skip
NAMED_SAMPLES = 3  # number of samples in a batch that an error lists


@dataclass(frozen=True)
class Steps:
    """Event after one or more steps; the caller may save the state.

    Attributes:
        epoch: Current epoch, starting from 0.
        step: Number of optimizer steps so far.
        steps: Number of steps since the previous event.
        samples: Number of samples that this process has used in these steps.
        loss: Mean loss of these steps over all processes. With fp16, the mean may be NaN or infinite.
        lr: Learning rate of the backbone in the last step.
        grad_norm: Gradient norm of all parameters in the last step, before clipping.
        waited: Time in seconds spent waiting for the batches of these steps.
        stopped: Whether training should stop; the value is the same in all processes.
    """

    epoch: int
    step: int
    steps: int
    samples: int
    loss: float
    lr: float
    grad_norm: float
    waited: float = field(default=0.0, compare=False)
    stopped: bool = False


@dataclass(frozen=True)
class Epoch:
    """Event after an epoch, with the epoch number (starting from 0) and the mean loss.

    When this event is yielded, the caller may save and evaluate the state.
    """

    epoch: int
    step: int
    loss: float


Event = Steps | Epoch


@dataclass(frozen=True)
class Network:
    """Module to train, with its inputs, device and precision.

    Attributes:
        module: Module that computes logits from inputs: the model, or only the head if the backbone is frozen. The
            module may be compiled or wrapped for multiple processes.
        inputs: Function that converts `Batch.images` to the inputs of `module`: normalized images, or float32 features.
        device: Device of the module.
        precision: Precision of the forward pass.
    """

    module: nn.Module
    inputs: Callable[[Tensor], Tensor]
    device: torch.device
    precision: Precision


@dataclass
class _Window:
    """Steps since the last fetch, whose losses and norms are still on the device."""

    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)
    samples: list[Tensor] = field(default_factory=list)
    waited: float = 0.0


def fit(
    state: State,
    network: Network,
    batches: Iterator[Batch],
    loss: Loss,
    config: Config,
    *,
    steps_per_epoch: int,
    sample_ids: Sequence[str] = (),
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train from the position of `state` to the end of the last epoch.

    On a CPU, `Steps` is yielded after each step. On a GPU, each transfer of a loss waits for the device, so `Steps` is
    yielded only every 20 steps, every `save_every` steps, after the last step of an epoch, and if training should stop.
    `Epoch` is yielded after each epoch. At each event, `state` is complete and may be saved or evaluated, and the
    caller may stop training.

    Args:
        state: Training state, which is changed in place.
        network: Module to train.
        batches: Batches from the position of the state to the end of the last epoch.
        loss: Function that computes the mean loss from logits and targets.
        config: Config of the run.
        steps_per_epoch: Number of batches in an epoch.
        sample_ids: Sample ids for error messages.
        stopping: Function that returns whether training should stop; called after each step. The results of all
            processes are combined, see `SharedFlag`.

    Yields:
        `Steps` and `Epoch`.

    Raises:
        RunError: A loss or gradient norm is NaN or infinite; with fp16, only if this is the case in more than 50
            consecutive steps. The message states the step and, with `sample_ids`, some samples. Earlier checkpoints
            remain valid.
    """
    flag = distributed.SharedFlag(network.device)
    for epoch in range(state.epoch, config.epochs):
        _set_train_mode(network.module, config)
        if state.ema is not None:
            state.ema.forget_tensors()  # evaluation may have replaced the model's tensors
            if config.swa_epochs:
                state.ema.uniform_from = (config.epochs - config.swa_epochs) * steps_per_epoch
        window = _Window()
        while state.batch < steps_per_epoch:
            # 1. Fetch the batch.
            started = time.perf_counter()
            batch = next(batches)
            window.waited += time.perf_counter() - started
            window.samples.append(batch.samples)
            batch = batch.to(network.device)
            # 2. Take a step. With a seed per step, dropout depends only on the position, not on earlier steps.
            lr = lr_at(state.step, steps_per_epoch, config)
            set_lr(state.optimizer, lr)
            torch.manual_seed(step_seed(config.seed, epoch, state.step))
            value, norm = train_step(state, network, batch, loss, config)
            state.batch += 1
            state.step += 1
            # 3. Keep losses on the device, and fetch the losses of several steps together.
            window.losses.append(value)
            window.norms.append(norm)
            window.lrs.append(lr)
            stopped = flag.exchange(stopping())
            if stopped or _sync_is_due(state, network.device, config, steps_per_epoch):
                yield replace(sync_metrics(state, window, network.precision, sample_ids), stopped=stopped)
                window = _Window()
        yield Epoch(epoch, state.step, state.loss_sum / steps_per_epoch)
        state.epoch, state.batch, state.loss_sum = epoch + 1, 0, 0.0


def _set_train_mode(module: nn.Module, config: Config) -> None:
    """Set the module to training mode.

    With `freeze_bn`, the running statistics of BatchNorm layers do not change.
    """
    module.train()
    if config.freeze_bn:
        for norm in module.modules():
            if isinstance(norm, _BatchNorm):
                norm.eval()


def train_step(state: State, network: Network, batch: Batch, loss: Loss, config: Config) -> tuple[Tensor, Tensor]:
    """Run one optimizer step and return the loss and gradient norm as tensors.

    The function does not wait for the device.
    """
    # Gradient accumulation: the batch is processed in parts, and each loss is weighted by the fraction of the complete
    # batch over all processes, so that the summed gradients are equal to those of a single large batch.
    parts = min(config.grad_accum_steps, len(batch.samples))
    full = math.ceil(config.batch_size / processes.world_size() / config.grad_accum_steps)
    images, targets = batch.images.tensor_split(parts), batch.targets.tensor_split(parts)
    total = torch.zeros((), device=network.device)
    for k in range(parts):
        with _synchronized(network.module, k == parts - 1):
            with autocast(network.device, network.precision), _compiled_for(full, len(images[k]), config):
                logits = network.module(network.inputs(images[k]))
            value = loss(logits, targets[k], state.epoch) * (batch.share * len(targets[k]) / len(batch.samples))
            with _batch_norm_kept(network.module, config):
                torch.autograd.backward(state.scaler.scale(value))
        total += value.detach()
    distributed.average_batch_norm(network.module)
    # The norm of the unscaled gradients is also computed without clipping, because it is logged and reveals NaN.
    state.scaler.unscale_(state.optimizer)
    gradients = [p.grad for p in trainable(state.optimizer) if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if config.clip_grad:
        torch.nn.utils.clip_grads_with_norm_(trainable(state.optimizer), config.clip_grad, norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        state.ema.update(state.model, step=state.step + 1)
    return total, norm


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Return the torch random seed for a step; the seed differs between processes."""
    words = np.random.SeedSequence([seed, epoch, step, processes.rank()]).generate_state(2)
    return int(words[0]) << 32 | int(words[1])


def _synchronized(module: nn.Module, last: bool) -> nullcontext[None]:
    """Average the gradients over processes only after the last part of a batch."""
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()  # type: ignore[return-value]
    return nullcontext()


def _compiled_for(full: int, size: int, config: Config) -> AbstractContextManager[object]:
    """Use the compiled module for full batches, but not for the smaller last batch of an epoch."""
    if config.compile and size != full:
        return cast(AbstractContextManager[object], torch.compiler.set_stance("force_eager"))
    return nullcontext()


@contextmanager
def _batch_norm_kept(module: nn.Module, config: Config) -> Iterator[None]:
    """Keep running statistics while gradient checkpointing repeats parts of the forward pass."""
    if not config.grad_checkpointing:
        yield
        return
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.training]
    buffers = [buffer for norm in norms for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    yield
    for buffer, value in zip(buffers, before, strict=True):
        buffer.copy_(value)


def _sync_is_due(state: State, device: torch.device, config: Config, steps_per_epoch: int) -> bool:
    every = SYNC_EVERY
    if device.type == "cpu":
        every = 1
    saving = config.save_every and state.step % config.save_every == 0
    return bool(state.step % every == 0 or state.batch == steps_per_epoch or saving)


def sync_metrics(state: State, window: _Window, precision: Precision, sample_ids: Sequence[str] = ()) -> Steps:
    """Copy the losses and gradient norms of multiple steps from the device in one transfer.

    A RunError is raised if a value is NaN or infinite. With fp16, up to 50 consecutive steps with NaN or infinite
    values are permitted.
    """
    losses = distributed.mean(torch.stack(window.losses))
    values, norms = torch.stack([losses, torch.stack(window.norms).to(losses)]).tolist()
    first = state.step - len(values)
    for k, (value, norm) in enumerate(zip(values, norms, strict=True)):
        finite = math.isfinite(value) and math.isfinite(norm)
        state.skipped = 0 if finite else state.skipped + 1
        if not finite and (precision != "fp16" or state.skipped > MAX_SKIPPED):
            named = _named(window.samples[k], sample_ids)
            where = f"at step {first + k + 1} (lr {window.lrs[k]:g}, grad norm {norm:g}{named})"
            kept = "no checkpoint has been saved yet"
            if state.saved is not None:
                kept = f"last good checkpoint: step {state.saved}"
            raise RunError(f"the loss is {value} {where}; try a lower lr or --precision fp32 ({kept})")
        state.loss_sum += value if finite else 0.0
    return Steps(
        epoch=state.epoch,
        step=state.step,
        steps=len(values),
        samples=sum(map(len, window.samples)),
        loss=math.fsum(values) / len(values),
        lr=window.lrs[-1],
        grad_norm=norms[-1],
        waited=window.waited,
    )


def _named(samples: Tensor, sample_ids: Sequence[str]) -> str:
    """Return a list of the first samples in a batch for an error message; empty without sample ids."""
    if not sample_ids:
        return ""
    return f"; samples {first_of([sample_ids[k] for k in samples.tolist()], NAMED_SAMPLES)}"
