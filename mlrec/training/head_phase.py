"""Head phase: only the head is trained, on features of the frozen backbone.

A randomly initialized head propagates meaningless gradients through the pretrained backbone. Kumar et al. ("Fine-Tuning
can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022) therefore train a linear probe first.
Features are computed once, without augmentation, and are used in all epochs of the head phase.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
import torch

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import Classifier
from mlrec.training.dataloader import steps_per_epoch
from mlrec.training.devices import Precision
from mlrec.training.features import compute_features, feature_batches, on_device_if_it_fits
from mlrec.training.loop import Epoch, fit
from mlrec.training.losses import Loss
from mlrec.training.setup import lay_out, make_network, make_state
from mlrec.training.state import State
from mlrec.utils import processes
from mlrec.utils.progress import Progress

logger = logging.getLogger(__name__)

FEATURE_BYTES = 4e9  # maximum size of the features; for larger splits, a random subset of the samples is used


def train_head(
    state: State,
    manifest: Manifest,
    config: Config,
    loss: Loss,
    device: torch.device,
    precision: Precision,
    progress: Progress,
) -> None:
    """Train the head of the model for `config.head_epochs` epochs without changing the backbone.

    The optimizer is AdamW with a cosine schedule that starts at `head_phase_lr`. Batch size, weight decay and seed are
    those of the run. The result depends only on the config, the data and the initial weights. If a run is interrupted
    in the head phase, the phase can therefore be repeated with the same result.

    Raises:
        RunError: A loss is NaN or infinite.
    """
    model, run = state.model, config
    config = msgspec.structs.replace(
        run,
        freeze_backbone=True,
        feature_copies=0,
        epochs=run.head_epochs,
        lr=run.head_phase_lr,
        head_lr_mult=1.0,
        opt="adamw",
        lr_schedule="cosine",
        warmup_epochs=0.0,
        layer_decay=1.0,
        ema=False,
        grad_accum_steps=1,
    )
    chosen = _that_fit(model, manifest, run.seed)
    if len(chosen) < len(manifest):
        logger.info(f"head phase: training on {len(chosen):,} of {len(manifest):,} samples, drawn at random")
    with _frozen_backbone(model):
        features = compute_features(model, chosen, config, device=device, precision=precision, progress=progress)
        head = make_state(model, config, device, precision)
        batches = feature_batches(
            on_device_if_it_fits(features, device),
            config,
            epoch=0,
            epochs=config.epochs,
            rank=processes.rank(),
            world=processes.world_size(),
        )
        steps = steps_per_epoch(len(chosen), config.batch_size, processes.world_size())
        network = make_network(head, config, device, precision)
        with progress.task("head phase", config.epochs) as advance:
            for event in fit(head, network, batches, loss, config, steps_per_epoch=steps):
                if isinstance(event, Epoch):
                    advance(1, f"loss {event.loss:.4f}")
    lay_out(model, run)  # restores the memory format, which computing features has changed
    if state.ema is not None:
        state.ema.set(model)  # type: ignore[no-untyped-call]  # initializes the average with the trained head


def _that_fit(model: Classifier, manifest: Manifest, seed: int) -> Manifest:
    """Return the split, or a random subset whose features have at most `FEATURE_BYTES` bytes."""
    per_sample = 4 * model.backbone.num_features * math.prod(model.backbone.grid)
    number = int(FEATURE_BYTES // per_sample)
    if number >= len(manifest):
        return manifest
    return manifest.subset(np.sort(np.random.default_rng(seed).permutation(len(manifest))[:number]))


@contextmanager
def _frozen_backbone(model: Classifier) -> Iterator[None]:
    """Freeze the backbone inside the block; parameters that were already frozen remain frozen afterwards."""
    trained = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
