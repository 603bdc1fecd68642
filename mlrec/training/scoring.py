"""`predict`: a model's logits of every sample of a manifest."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlrec.datasets.manifest import Manifest
from mlrec.errors import MlrecError, printable
from mlrec.models.classifier import Classifier
from mlrec.predictions import Predictions
from mlrec.progress import SILENT, Progress
from mlrec.training.batches import eval_batches
from mlrec.training.devices import autocast, prepare_device, resolve_device, resolve_precision
from mlrec.training.features import Features
from mlrec.training.transforms import Decode, normalize


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
) -> Predictions:
    """Logits of the whole split, in the manifest's order, float32.

    The model is moved to the device and left in eval mode there. With several processes each scores its batches and
    all get the whole: the bits do not depend on how many there are.

    Raises:
        DataError: an image that cannot be read, by its name; nothing is ever put in its place.
        MlrecError: a logit that is no finite number, by the sample's name.
    """
    chosen = resolve_device(device)
    how = resolve_precision(precision, chosen)
    prepare_device(chosen, how)
    model = model.to(chosen, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    batches = eval_batches(
        manifest, model.preprocessing, batch_size=batch_size, workers=workers, decode=decode, rank=rank, world=world,
        progress=progress,
    )  # fmt: skip
    # Row N takes what fills up the last batch; a sum over processes then joins rows that are 0 everywhere but once.
    logits = torch.zeros((len(manifest) + 1, len(manifest.labels)), device=chosen)
    total = math.ceil(len(manifest) / world)
    with torch.inference_mode(), progress.task(f"scoring {manifest.split}", total) as step:
        for batch in batches:
            inputs = batch.to(chosen)
            with autocast(chosen, how):
                features = model.backbone(normalize(inputs.images, model.preprocessing))
            # The head outside of it: logits rounded to bf16 have 256 values an octave, and tie.
            output = model.head(features.to(torch.float32))
            logits[inputs.samples] = output + 0.0  # no -0, which a sum would not keep
            step(int((batch.samples >= 0).sum()))
        if world > 1:
            torch.distributed.all_reduce(logits)
    return _as_predictions(logits[:-1], manifest)


def predict_features(model: Classifier, features: Features, *, batch_size: int = 16) -> Predictions:
    """`predict` from plain features of the model's trunk, computed before.

    Raises:
        MlrecError: a logit that is no finite number, by the sample's name.
    """
    device = next(model.head.parameters()).device
    model.eval()
    parts = torch.split(features.values[0], batch_size)
    with torch.inference_mode():
        logits = torch.cat([model.head(part.to(device, torch.float32)) for part in parts])
    return _as_predictions(logits, features.manifest)


def _as_predictions(logits: Tensor, manifest: Manifest) -> Predictions:
    values = logits.cpu()
    broken = (~torch.isfinite(values)).nonzero()
    if len(broken):
        sample, label = (int(k) for k in broken[0])
        raise MlrecError(
            f"logit of '{printable(manifest.sample_ids[sample])}', label '{printable(manifest.labels[label])}' is "
            f"{float(values[sample, label])}, as are {len(broken) - 1} more; the weights are damaged or diverged"
        )
    return Predictions(manifest.labels, manifest.sample_ids, values.numpy(), manifest.targets, manifest.digest)
