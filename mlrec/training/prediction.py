"""`predict`: a model's logits of every sample of a manifest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import Classifier
from mlrec.predictions import Predictions
from mlrec.training.batches import eval_batches
from mlrec.training.inference import open_on
from mlrec.training.transforms import Decode, filled
from mlrec.utils.errors import MlrecError, printable
from mlrec.utils.progress import SILENT, Progress

if TYPE_CHECKING:
    from mlrec.training.features import Features


def predict(
    model: Classifier,
    manifest: Manifest,
    *,
    batch_size: int = 16,
    workers: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    decode: Decode = "fast",
    progress: Progress = SILENT,
    rank: int = 0,
    world: int = 1,
    batch_flag: str = "--batch-size",
) -> Predictions:
    """Logits of the whole split, in the manifest's order, float32.

    The model is moved to the device and left in eval mode there. With several processes each scores its batches and
    all get the whole: the bits do not depend on how many there are.

    Raises:
        DataError: an image that cannot be read, by its name; nothing is ever put in its place.
        MlrecError: a logit that is no finite number, by the sample's name.
        RunError: memory runs out; names `batch_flag`, the flag of the caller that sets the batch size.
    """
    logits = read_features(
        model, manifest, lambda features: model.head(features)[:, None], 1, batch_size=batch_size, workers=workers,
        device=device, precision=precision, decode=decode, progress=progress, rank=rank, world=world,
        batch_flag=batch_flag,
    )  # fmt: skip
    return as_predictions(logits[:, 0], manifest)


def predict_parts(
    model: Classifier, manifest: Manifest, *, temperatures: Sequence[float] = (), **how: Any
) -> tuple[Predictions, tuple[NDArray[np.float32], ...]]:
    """The two parts that λ weighs, in one pass: logits at λ = 0, and for each temperature what λ = 1 adds to them.

    Args:
        model: with any head but the one without an average.
        manifest: the split.
        temperatures: see `residual_parts`.
        **how: the options of `predict`.

    Raises:
        MlrecError: as `predict`; a head whose logits λ does not weigh.
    """
    from mlrec.models.residual import residual_parts

    parts = read_features(
        model, manifest, lambda features: residual_parts(model.head, features, temperatures),
        1 + max(1, len(temperatures)), **how,
    )  # fmt: skip
    average, *added = (as_predictions(part, manifest) for part in parts.unbind(1))
    return average, tuple(part.logits for part in added)


def read_features(
    model: Classifier,
    manifest: Manifest,
    read: Callable[[Tensor], Tensor],
    number: int,
    *,
    batch_size: int = 16,
    workers: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    decode: Decode = "fast",
    progress: Progress = SILENT,
    rank: int = 0,
    world: int = 1,
    batch_flag: str = "--batch-size",
) -> Tensor:
    """One pass over the split: (N, `number`, C) of what `read` makes, (B, `number`, C), of the features of a batch."""
    opened = open_on(model, device, precision, batch_flag=batch_flag)
    batches = eval_batches(
        manifest, model.preprocessing, batch_size=batch_size, workers=workers, decode=decode, rank=rank, world=world,
        progress=progress, device=opened.device,
    )  # fmt: skip
    # Row N takes what fills up the last batch; a sum over processes then joins rows that are 0 everywhere but once.
    found = torch.zeros((len(manifest) + 1, number, len(manifest.labels)), device=opened.device)
    total = math.ceil(len(manifest) / world)
    with torch.inference_mode(), progress.task(f"scoring {manifest.split}", total) as step:
        for batch in batches:
            inputs = batch.to(opened.device)
            output = opened.run(inputs.images, read)
            found[inputs.samples] = output + 0.0  # no -0, which a sum would not keep
            step(int((batch.samples >= 0).sum()))
        if world > 1:
            torch.distributed.all_reduce(found)
    return found[:-1]


def predict_features(model: Classifier, features: Features, *, batch_size: int = 16) -> Predictions:
    """`predict` from plain features of the model's backbone, computed before with the same batch size.

    Raises:
        MlrecError: a logit that is no finite number, by the sample's name.
    """
    device = next(model.head.parameters()).device
    model.eval()
    values, size = features.values[0], min(batch_size, len(features.manifest))
    logits = []
    with torch.inference_mode():
        for part in torch.split(values, batch_size):
            # Shape, dtype and memory layout of what the backbone gives in `predict`: the bits are the same, too.
            inputs = filled(part, size).to(device, torch.float32).contiguous(memory_format=torch.channels_last)
            logits.append(model.head(inputs)[: len(part)])
    return as_predictions(torch.cat(logits), features.manifest)


def as_predictions(logits: Tensor, manifest: Manifest) -> Predictions:
    """Logits (N, C) of a whole manifest; raises MlrecError where one is no finite number."""
    values = logits.cpu()
    broken = (~torch.isfinite(values)).nonzero()
    if len(broken):
        sample, label = (int(k) for k in broken[0])
        raise MlrecError(
            f"logit of '{printable(manifest.sample_ids[sample])}', label '{printable(manifest.labels[label])}' is "
            f"{float(values[sample, label])}, as are {len(broken) - 1} more; the weights are damaged or diverged"
        )
    return Predictions(manifest.labels, manifest.sample_ids, values.numpy(), manifest.targets, manifest.digest)
