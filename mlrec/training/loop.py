"""`fit`: the training loop, a generator of events. It trains and yields; its caller writes and draws."""

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
from mlrec.training.optim import lr_at, set_lr, trainable
from mlrec.training.state import State
from mlrec.utils import processes
from mlrec.utils.errors import RunError, printable

SYNC_EVERY = 20  # steps between two looks at what a GPU has computed; looking waits for it
MOST_SKIPPED = 50  # steps in a row that an fp16 scaler may leave out
NAMED = 3  # samples of a batch whose loss is no number


@dataclass(frozen=True)
class Steps:
    """Some steps are done, all finite: `steps` of them with `samples` samples, `step` in all. Safe to save.

    Attributes:
        loss: mean over these steps.
        lr: the backbone's, of the last of them.
        grad_norm: of the last of them, over all parameters, before clipping.
        waited: seconds in which these steps waited for their batches.
        stopped: `stopping` said so; in all processes at the same step.
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
    """An epoch is done; `loss` is its mean. Time to save, and to score where that is due."""

    epoch: int
    step: int
    loss: float


Event = Steps | Epoch


@dataclass(frozen=True)
class Network:
    """What is trained, on its device.

    Attributes:
        module: inputs → logits: the model, or its head where the backbone is frozen, wrapped for several processes or
            compiled.
        inputs: what a batch holds → what `module` takes: normalised images, or features as they are.
    """

    module: nn.Module
    inputs: Callable[[Tensor], Tensor]
    device: torch.device
    precision: Precision


@dataclass
class _Window:
    """Steps since the last look; losses and norms are still on the device."""

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
    """Train from where `state` stands to the end of the last epoch.

    `Steps` comes after each step on a CPU and every 20 on a GPU, where fetching a loss waits for the device, or sooner
    when training is to stop; `Epoch` comes after each epoch. Between two events `state` is complete: it may be saved,
    scored, or left for good.

    Args:
        state: changed in place.
        network: the module that is trained.
        batches: from the state's batch of its epoch on, through all epochs to come.
        loss: (logits, targets) → mean loss.
        config: the run's.
        steps_per_epoch: batches of an epoch.
        sample_ids: names of the samples, for the error.
        stopping: whether training is to stop, asked after each step; exchanged among processes, see `SharedFlag`.

    Raises:
        RunError: loss or gradients are no finite numbers; names step and samples. What was saved before stays good.
    """
    flag = distributed.SharedFlag(network.device)
    for epoch in range(state.epoch, config.epochs):
        network.module.train()
        if state.ema is not None:
            state.ema.forget_tensors()  # scoring may have given the model other tensors
        window = _Window()
        while state.batch < steps_per_epoch:
            begun = time.perf_counter()
            batch = next(batches)
            window.waited += time.perf_counter() - begun
            window.samples.append(batch.samples)
            batch = batch.to(network.device)
            lr = lr_at(state.step, steps_per_epoch, config)
            set_lr(state.optimizer, lr)
            torch.manual_seed(step_seed(config.seed, epoch, state.step))  # dropout's masks
            value, norm = train_step(state, network, batch, loss, config)
            state.batch += 1
            state.step += 1
            window.losses.append(value)
            window.norms.append(norm)
            window.lrs.append(lr)
            stopped = flag.exchange(stopping())
            if stopped or _sync_is_due(state, network.device, config, steps_per_epoch):
                yield replace(sync_metrics(state, window, network.precision, sample_ids), stopped=stopped)
                window = _Window()
        yield Epoch(epoch, state.step, state.loss_sum / steps_per_epoch)
        state.epoch, state.batch, state.loss_sum = epoch + 1, 0, 0.0


def train_step(state: State, network: Network, batch: Batch, loss: Loss, config: Config) -> tuple[Tensor, Tensor]:
    """One step of the optimiser; returns loss and gradient norm, on the device, without waiting for it."""
    parts = min(config.grad_accum_steps, len(batch.samples))
    full = math.ceil(config.batch_size / processes.world_size() / config.grad_accum_steps)
    images, targets = batch.images.tensor_split(parts), batch.targets.tensor_split(parts)
    total = torch.zeros((), device=network.device)
    for k in range(parts):
        with _synchronised(network.module, k == parts - 1):
            with autocast(network.device, network.precision), _compiled_for(full, len(images[k]), config):
                logits = network.module(network.inputs(images[k]))
            value = loss(logits, targets[k]) * (batch.share * len(targets[k]) / len(batch.samples))
            with _batch_norm_kept(network.module, config):
                torch.autograd.backward(state.scaler.scale(value))
        total += value.detach()
    distributed.average_batch_norm(network.module)
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
    """The seed of torch's draws in a step, other for each process."""
    words = np.random.SeedSequence([seed, epoch, step, processes.rank()]).generate_state(2)
    return int(words[0]) << 32 | int(words[1])


def _synchronised(module: nn.Module, last: bool) -> nullcontext[None]:
    """Gradients of several processes are averaged with the last part of a batch only."""
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()  # type: ignore[return-value]
    return nullcontext()


def _compiled_for(full: int, size: int, config: Config) -> AbstractContextManager[object]:
    """Batches of the usual size run compiled, the last one of an epoch does not: it would be compiled for itself."""
    if config.compile and size != full:
        return cast(AbstractContextManager[object], torch.compiler.set_stance("force_eager"))
    return nullcontext()


@contextmanager
def _batch_norm_kept(module: nn.Module, config: Config) -> Iterator[None]:
    """Leave running statistics as they are while a backward pass runs parts of the forward pass again."""
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
    every = 1 if device.type == "cpu" else SYNC_EVERY
    saving = config.save_every and state.step % config.save_every == 0
    return bool(state.step % every == 0 or state.batch == steps_per_epoch or saving)


def sync_metrics(state: State, window: _Window, precision: Precision, sample_ids: Sequence[str] = ()) -> Steps:
    """Fetch the window's losses and norms from the device, the one wait of many steps, and check them."""
    losses = distributed.mean(torch.stack(window.losses))
    values, norms = torch.stack([losses, torch.stack(window.norms).to(losses)]).tolist()
    first = state.step - len(values)
    for k, (value, norm) in enumerate(zip(values, norms, strict=True)):
        finite = math.isfinite(value) and math.isfinite(norm)
        state.skipped = 0 if finite else state.skipped + 1
        if not finite and (precision != "fp16" or state.skipped > MOST_SKIPPED):
            named = _named(window.samples[k], sample_ids)
            where = f"at step {first + k + 1} (lr {window.lrs[k]:g}, grad norm {norm:g}{named})"
            kept = f"last good checkpoint: step {state.saved}" if state.saved is not None else "nothing was saved yet"
            raise RunError(f"loss is {value} {where}; {kept}; try a lower lr or --precision fp32")
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
    """The first samples of a batch by name, where they have names."""
    if not sample_ids:
        return ""
    shown = ", ".join(printable(sample_ids[k]) for k in samples[:NAMED].tolist())
    return f"; samples {shown}" + (f" and {len(samples) - NAMED} more" if len(samples) > NAMED else "")
