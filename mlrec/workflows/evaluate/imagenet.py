"""`mlrec imagenet DATA --backbone NAME --pretrained`: a timm classifier as published, and λ · maximum on it."""

from __future__ import annotations

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
from mlrec.utils.errors import UsageError, counted, printable
from mlrec.utils.files import write_json
from mlrec.utils.progress import SILENT, Progress
from mlrec.utils.weight_packages import check_weights_name
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.model_names import check_backbone_name


@dataclass(frozen=True)
class ImageNetEvaluation:
    """What was found, the folder it lies in, and how it is shown."""

    path: Path
    sweep: AccuracySweep
    table: Table

    @property
    def content(self) -> dict[str, Any]:
        """That of `accuracy.json`."""
        found: dict[str, Any] = msgspec.to_builtins(self.sweep)
        return found


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
    """Top-1 and top-5 accuracy of a timm classifier on a folder of class folders, as published and at every λ.

    The input is prepared as the weights were published for, and computed in float32. `accuracy.json` goes to the
    folder `published-BACKBONE-FOLDER` below `out`; weights of a file stand in its name, too.

    Args:
        backbone: a timm name; a bare one means the weights of the paper.
        data: the folder; a class folder is called by its WordNet id or by its number.
        lams: the grid; 0 and the λ that the paper fixes for this backbone are added.
        weights: a file, or a package of `packaged`, instead of the hub's weights.
        pretrained: fetch the weights from the hub.
        machine: how to run; the precision is float32 always.
        out: where the folder is made.
        progress: where bars and notes go.

    Raises:
        UsageError: no weights were asked for.
        MlrecError: weights out of reach, class folders that are none, a model that does more than average.
    """
    if not pretrained and weights is None:
        raise UsageError(f"--backbone {printable(backbone)}: give --pretrained, or --weights FILE")
    check_backbone_name(backbone)
    if weights is not None:
        check_weights_name(str(weights))
    if data is None:
        raise UsageError("give the images as in mlrec imagenet DATA: a folder with one folder per class")
    from mlrec.models.imagenet import imagenet_classifier
    from mlrec.models.paper_checkpoints import fixed_lam
    from mlrec.training.devices import resolve_device
    from mlrec.training.imagenet_accuracy import count_hits

    how = machine or RuntimeOptions()
    classifier = imagenet_classifier(backbone, weights=weights, pretrained=pretrained)
    manifest = read_class_folders(data, classifier.classes)
    fixed = fixed_lam(classifier.name, "linear")
    grid = sorted({0.0, fixed, *lams})
    progress.say(f"data: {printable(data)}, {counted(len(manifest), 'image')}")
    hits = count_hits(
        classifier, manifest, grid, batch_size=how.batch_size or 16, workers=how.workers,
        device=resolve_device(how.device), progress=progress,
    )  # fmt: skip
    gains = accuracy_gains(hits.by_lam[0], grid.index(0.0), grid.index(fixed))
    accuracy = hits.by_lam.mean(axis=2)
    sweep = AccuracySweep(
        backbone=classifier.name,
        weights="" if weights is None else Path(weights).name,
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
    whose = [classifier.name, *([Path(weights).stem] if weights is not None else [])]
    folder = out / "-".join(["published", *whose, manifest.name])
    found = ImageNetEvaluation(folder, sweep, accuracy_table(sweep))
    write_json(folder / FILE, found.content)
    return found


def _gain(interval: Interval) -> Gain:
    return Gain(interval.value, interval.low, interval.high)
