"""Setup of a run from a config: the device, model, optimizer, initial state and network."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.modules.batchnorm import _BatchNorm

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.backbones import paper_weights
from mlrec.models.checkpoint import load_model, stored_preprocessing
from mlrec.models.classifier import Classifier, create_model
from mlrec.training import distributed
from mlrec.training.devices import (
    Precision,
    default_eval_batch,
    memory_format,
    prepare_device,
    resolve_device,
    resolve_precision,
)
from mlrec.training.loop import Network
from mlrec.training.losses import Loss, loss_function
from mlrec.training.optimizer import make_optimizer
from mlrec.training.state import State
from mlrec.training.transforms import normalize
from mlrec.utils import processes
from mlrec.utils.errors import ModelError, UsageError

logger = logging.getLogger(__name__)

SEARCH_STEPS = 10_000  # shorter training runs do not repay the search for the fastest kernels, up to a minute


def resolve_runtime(config: Config, manifest: Manifest) -> tuple[torch.device, Precision, Loss]:
    """Return the device, precision and loss function for a run with the training split `manifest`.

    Raises:
        UsageError: This machine does not support the device or precision, or the batch size is not divisible by the
            number of processes.
        ConfigError: The loss is unknown or cannot be used with the config or the targets, or the `pos_weight` file is
            invalid.
    """
    device = resolve_device(config.device)
    per_process(config)
    return device, resolve_precision(config.precision, device), loss_function(config, manifest)


def build_model(config: Config, manifest: Manifest, *, paper: bool, empty: bool = False) -> Classifier:
    """Create the model for a run.

    Random weights are drawn with the seed of the config. With `init_head`, the head is copied from the `init_from`
    model.

    Args:
        config: Config of the run.
        manifest: Training split, which defines the labels and, for the gcn head, the label graph.
        paper: Whether a backbone name without a tag selects the paper's weights instead of timm's default weights.
        empty: Whether to skip loading weights. The weights are then random and must be replaced by those of a
            checkpoint.

    Raises:
        ModelError: A name is unknown, weights cannot be loaded, or `init_head` is set and the labels or the heads of
            the models differ. Random weights are never used as a fallback.
    """
    torch.manual_seed(config.seed)
    source = None if empty else config.init_from or config.weights
    graph = None
    if config.head == "gcn":
        from mlrec.models.gcn import label_graph

        graph = label_graph(manifest.targets, manifest.labels, config.word_vectors)
    model = create_model(
        paper_weights(config.backbone) if paper else config.backbone,
        len(manifest.labels),
        config.head,
        config.heads,
        config.lam,
        config.pretrained and not empty,
        normalize=config.normalize,
        temperatures=config.temperatures,
        img_size=config.img_size,
        logit_scale=config.logit_scale,
        head_dropout=config.head_dropout,
        weights=source,
        labels=manifest.labels,
        pooling=config.pooling,
        decoder_dim=config.decoder_dim,
        decoder_layers=config.decoder_layers,
        query_groups=config.query_groups,
        graph=graph,
    )
    if config.init_head and config.init_from is not None and not empty:
        _load_head(model, Path(config.init_from))
    if source is not None:
        model.preprocessing = stored_preprocessing(source, model.preprocessing)
    model.preprocessing = model.preprocessing.normalized(config.normalization)
    norms = any(isinstance(module, _BatchNorm) for module in model.backbone.modules())
    if config.freeze_bn and norms and source is None and not (config.pretrained or empty):
        logger.warning(
            "freeze_bn: the BatchNorm statistics of a randomly initialized backbone stay at mean 0 and variance 1; set "
            "freeze_bn=false or use pretrained weights"
        )
    if config.freeze_backbone:
        model.backbone.requires_grad_(False)
    if config.grad_checkpointing:
        model.backbone.checkpoint_gradients()
    return model


def _load_head(model: Classifier, source: Path) -> None:
    """Copy the head weights from another model with the same labels and the same head.

    Raises:
        ModelError: The labels or heads differ.
    """
    other = load_model(source)
    if set(other.labels) != set(model.labels):
        raise ModelError(
            f"{source}: the labels differ from those of this run, so the head cannot be used; omit --init-head"
        )
    if other.labels != model.labels:
        raise ModelError(f"{source}: the labels are in a different order than in this run; omit --init-head")
    try:
        model.head.load_state_dict(other.head.state_dict())
    except RuntimeError as error:
        own, theirs = model.architecture.head, other.architecture.head
        raise ModelError(
            f"{source}: the head ({theirs}) does not match the head of this run ({own}); train with the same head "
            "options, "
            "or omit --init-head"
        ) from error


def prepare_process(config: Config, device: torch.device, precision: Precision, samples: int = 0) -> None:
    """Set threads, TF32 and the selection of CUDA kernels for the whole process.

    Defaults are also set explicitly, so that a run does not inherit settings from an earlier run in the same process.

    Args:
        config: Config of the run.
        device: Device of the model.
        precision: Numeric precision.
        samples: Number of training samples; 0 if the process does not train.
    """
    prepare_device(device, precision, config.threads)
    if device.type == "cuda":
        # cuDNN searches in the first epoch, once for full batches and once for the smaller last batch.
        steps = config.epochs * samples // config.batch_size
        torch.backends.cudnn.benchmark = steps >= SEARCH_STEPS and not config.deterministic
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # warn_only is not used, because it would allow attention kernels with a non-deterministic backward pass.
        torch.use_deterministic_algorithms(config.deterministic)


def resume_note(config: Config, device: torch.device) -> str | None:
    """Return a warning text if a run on this device cannot be resumed bit-exactly, otherwise None."""
    if device.type == "cpu" or (device.type == "cuda" and config.deterministic):
        return None
    return (
        f"resuming on {device.type} without --deterministic: the result may differ slightly from that of an "
        "uninterrupted run"
    )


def make_state(model: Classifier, config: Config, device: torch.device, precision: Precision) -> State:
    """Create the initial training state on the device."""
    lay_out(model.to(device), config)
    ema = None
    if config.ema:
        from mlrec.training.ema import WeightAverage  # imports timm's utilities

        ema = WeightAverage(model, config.ema_decay)
    return State(model, make_optimizer(model, config), GradScaler(device.type, enabled=precision == "fp16"), ema)


def lay_out(model: Classifier, config: Config) -> None:
    """Convert the weights to the memory format of the run.

    Strides affect the order of summation and therefore the last bits of the results.
    """
    device = next(model.parameters()).device
    model.to(memory_format=memory_format(device, channels_last=config.channels_last))


def make_network(state: State, config: Config, device: torch.device, precision: Precision) -> Network:
    """Create the network for `fit`: the model, or only the head if the backbone is frozen."""
    model = state.model
    module: nn.Module = model
    if config.freeze_backbone:
        module = model.head
    if processes.world_size() > 1:
        module = distributed.parallel(module, device, sync_bn=config.sync_bn)
    if config.compile:
        module.compile()
    preprocessing, layout = model.preprocessing, memory_format(device, channels_last=config.channels_last)

    def inputs(images: Tensor) -> Tensor:
        return normalize(images, preprocessing).contiguous(memory_format=layout)

    def features(cached: Tensor) -> Tensor:
        return cached.to(torch.float32)

    if config.freeze_backbone:  # the head runs in float32 for every precision of the backbone
        return Network(module, features, device, "fp32")
    return Network(module, inputs, device, precision)


def per_process(config: Config) -> int:
    """Return the number of samples per step in one process.

    Raises:
        UsageError: The batch size is not a multiple of the number of processes.
    """
    share, rest = divmod(config.batch_size, processes.world_size())
    if rest or not share:
        raise UsageError(
            f"--batch-size {config.batch_size} is not a multiple of the number of processes "
            f"({processes.world_size()}); "
            "change one of them"
        )
    return share


def eval_batch_size(config: Config, device: torch.device) -> int:
    """Return the batch size for evaluations during a run.

    On CUDA, the batch size does not depend on the number of processes and is the same as in `eval`.
    """
    if config.eval_batch_size is not None:
        return config.eval_batch_size
    trained = config.batch_size
    if device.type != "cuda":
        trained = per_process(config)
    return default_eval_batch(trained, device)


def facts(model: Classifier, config: Config) -> dict[str, Any]:
    """Return information about the model for `run.json`.

    The backbone name includes the weights tag only if the run starts from timm's pretrained weights.
    """
    tagged = model.backbone.name
    source = config.init_from or config.weights
    published = config.pretrained and source is None
    return {
        "backbone": tagged if published else tagged.partition(".")[0],
        "weights": tagged if published else source or "random",
        "parameters": sum(p.numel() for p in model.parameters()),
        "head_parameters": sum(p.numel() for p in model.head.parameters()),
        "input_size": model.preprocessing.size,
        "preprocessing": model.preprocessing.to_dict(),
    }
