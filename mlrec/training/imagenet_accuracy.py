"""Top-1 and top-5 accuracy for all values of λ, computed in a single pass over the images."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data.transforms_factory import create_transform
from torch import Tensor

from mlrec.datasets.images.decode import Pixels
from mlrec.datasets.manifest import Manifest
from mlrec.models.imagenet import ImageNetClassifier
from mlrec.models.preprocessing import Preprocessing
from mlrec.training.dataloader import Batch, ImageBatches, eval_keys, run
from mlrec.training.devices import memory_explained, prepare_device
from mlrec.training.transforms import normalize
from mlrec.utils.progress import SILENT, Progress

TOP = (1, 5)


@dataclass(frozen=True, eq=False)
class Hits:
    """Top-1 and top-5 hits: whether the true class of each image has the highest or one of the five highest scores.

    Attributes:
        published: Bool array (2, N) for the published logits; row 0 is top-1, and row 1 is top-5.
        by_lam: Bool array (2, L, N) for the logits mean + λ · maximum over locations, with L values of λ.
    """

    published: NDArray[np.bool_]
    by_lam: NDArray[np.bool_]


class PublishedViews(ImageBatches):
    """Images with the preprocessing of the published classifier: timm's resize and center crop."""

    def __init__(self, manifest: Manifest, data: dict[str, Any]) -> None:
        size = data["input_size"][-1]
        super().__init__(manifest, Preprocessing(size, tuple(data["mean"]), tuple(data["std"])), "pil", None)
        self.transform = create_transform(**data, is_training=False, normalize=False)

    def _view(self, pixels: Pixels, epoch: int | None, sample: int, path: Any) -> Tensor:  # noqa: ARG002 - one view
        from PIL import Image

        made: Tensor = self.transform(Image.fromarray(pixels))
        return made


def count_hits(
    classifier: ImageNetClassifier,
    manifest: Manifest,
    lams: Sequence[float],
    *,
    batch_size: int = 16,
    workers: int | None = None,
    device: torch.device | None = None,
    progress: Progress = SILENT,
) -> Hits:
    """Classify all images for all values of λ.

    For the first batch, the logits at λ = 0 are compared with the published logits.

    Raises:
        ModelError: The logits at λ = 0 differ from the published logits, see `ImageNetClassifier.check`.
        DataError: An image cannot be read; the message states the file.
        RunError: The device ran out of memory.
    """
    where = device or torch.device("cpu")
    prepare_device(where, "fp32")
    classifier.model.to(where)
    right = torch.from_numpy(manifest.targets.argmax(1)).to(where)
    views = PublishedViews(manifest, classifier.data)
    total, largest = math.ceil(len(manifest) / batch_size), min(batch_size, len(manifest))
    keys = eval_keys(len(manifest), batch_size, rank=0, world=1)
    rows: list[Tensor] = []
    batches = cast(
        Generator[Batch],
        run(views, keys, largest=largest, workers=workers, total=total, device=where),
    )
    with closing(batches), torch.inference_mode(), progress.task(f"classifying {manifest.name}", len(manifest)) as step:
        for batch in batches:
            real = batch.samples >= 0
            size = batch.images.shape[-1]
            with memory_explained("--batch-size", where, batch_size=int(real.sum()), size=size):
                images = normalize(batch.images[real].to(where), views.preprocessing)
                if not rows:
                    classifier.check(images)
                published, mean, maximum = classifier.logits(images)
                true = right[batch.samples[real].to(where)]
                each = [published, *(mean + lam * maximum for lam in lams)]
                rows.append(torch.stack([_ranks(logits, true) for logits in each]).cpu())
            step(int(real.sum()))
    ranks = torch.cat(rows, dim=1).numpy()
    hits = np.stack([ranks < top for top in TOP])
    return Hits(hits[:, 0], hits[:, 1:])


def _ranks(logits: Tensor, true: Tensor) -> Tensor:
    """Return the rank (B,) of the true class, starting from 0; in ties, the lower class index comes first."""
    own = logits.gather(1, true[:, None])
    lower = torch.arange(logits.shape[1], device=logits.device) < true[:, None]
    return ((logits > own) | ((logits == own) & lower)).sum(1)
