"""`mlrec imagenet DATA --backbone NAME`: evaluate a timm classifier.

The classifier is evaluated as published, and after adding λ times the maximum logit over all locations.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mlrec.datasets.readers.class_folders import read_class_folders
from mlrec.metrics.imagenet_accuracy import accuracy_gains
from mlrec.metrics.intervals import Interval
from mlrec.reports.paper.imagenet import FILE, AccuracySweep, accuracy_table
from mlrec.reports.paper.table1 import Gain
from mlrec.reports.render.table import Table
from mlrec.utils.errors import UsageError, counted
from mlrec.utils.files import write_json
from mlrec.utils.progress import SILENT, Progress
from mlrec.utils.weight_packages import check_weights_name
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.train import check_backbone_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageNetEvaluation:
    """Accuracy of a published classifier, and the table to print.

    Attributes:
        path: Written folder.
        sweep: Accuracy at each value of λ.
        table: Table to print.
    """

    path: Path
    sweep: AccuracySweep
    table: Table

    @property
    def content(self) -> dict[str, Any]:
        """Return the content of `accuracy.json`."""
        content: dict[str, Any] = msgspec.to_builtins(self.sweep)
        return content


def evaluate_published(
    backbone: str,
    data: Path | None,
    *,
    lams: Sequence[float] = (0.0,),
    weights: str | Path | None = None,
    pretrained: bool = False,
    machine: RuntimeOptions | None = None,
    out: Path = Path("runs"),
    progress: Progress = SILENT,
) -> ImageNetEvaluation:
    """Compute the accuracy of a timm classifier on an image folder, as published and at every λ.

    Images are preprocessed as for the published weights, and the model runs in float32. `accuracy.json` is written to
    the folder `published-BACKBONE-FOLDER` in `out`. With `weights`, the folder is `published-BACKBONE-WEIGHTS-FOLDER`,
    where WEIGHTS is the stem of the file name or the name of the package. An existing file is replaced.

    Args:
        backbone: timm name; a name without a tag selects the weights used in the paper.
        data: Folder with one subfolder per class, named by WordNet id or class number.
        lams: Values of λ; 0 and the paper's fixed λ for this backbone are always included.
        weights: File or package with weights, instead of weights from the hub.
        pretrained: Whether to download the weights from the hub.
        machine: Runtime options; the precision is always float32.
        out: Folder in which the result folder is created.
        progress: Progress display.

    Raises:
        UsageError: Neither `pretrained` nor `weights` is set, or `data` is None.
        MlrecError: The weights cannot be loaded, a folder name does not identify a class, or the model does not use
            average pooling.
    """
    if not pretrained and weights is None:
        raise UsageError(f"--backbone {backbone}: no weights are selected; use --pretrained or --weights FILE")
    check_backbone_name(backbone)
    if weights is not None:
        check_weights_name(str(weights))
    if data is None:
        raise UsageError("DATA is missing; pass a folder with one subfolder per class: mlrec imagenet DATA")
    from mlrec.models.imagenet import imagenet_classifier
    from mlrec.models.paper_checkpoints import fixed_lam
    from mlrec.training.devices import resolve_device
    from mlrec.training.imagenet_accuracy import count_hits

    machine = machine or RuntimeOptions()
    classifier = imagenet_classifier(backbone, weights=weights, pretrained=pretrained)
    manifest = read_class_folders(data, classifier.classes)
    fixed = fixed_lam(classifier.name, "linear")
    grid = sorted({0.0, fixed, *lams})
    logger.info(f"data: {data}, {counted(len(manifest), 'image')}")
    device = resolve_device(machine.device)
    hits = count_hits(
        classifier,
        manifest,
        grid,
        batch_size=machine.batch_size_for({}, device),
        workers=machine.workers,
        device=device,
        progress=progress,
    )
    gains = accuracy_gains(hits.by_lam[0], grid.index(0.0), grid.index(fixed))
    accuracy = hits.by_lam.mean(axis=2)
    sweep = AccuracySweep(
        backbone=classifier.name,
        weights=Path(weights or "").name,
        resolution=int(classifier.data["input_size"][-1]),
        data=manifest.name,
        samples=len(manifest),
        classes=int(np.count_nonzero(manifest.targets.any(axis=0))),
        class_token=classifier.class_token,
        published=hits.published.mean(axis=1).tolist(),
        lams=grid,
        top1=accuracy[0].tolist(),
        top5=accuracy[1].tolist(),
        fixed_lam=fixed,
        best_lam=grid[gains.best],
        gain=_gain(gains.best_gain),
        fixed_gain=_gain(gains.fixed_gain),
    )
    parts = ["published", classifier.name, manifest.name]
    if weights is not None:
        parts.insert(2, Path(weights).stem)
    evaluation = ImageNetEvaluation(out / "-".join(parts), sweep, accuracy_table(sweep))
    write_json(evaluation.path / FILE, evaluation.content)
    return evaluation


def _gain(interval: Interval) -> Gain:
    return Gain(interval.value, interval.low, interval.high)
