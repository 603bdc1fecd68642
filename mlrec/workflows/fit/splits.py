"""Splits used by `mlrec fit`: one for training, one for model selection, and one for the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mlrec.datasets.analysis.split import stratified
from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import Manifest
from mlrec.utils.errors import UsageError
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.data.groupings import sample_groups
from mlrec.workflows.data.split import MADE, add_splits
from mlrec.workflows.train.train import has_labels

logger = logging.getLogger(__name__)
PREFIX = "fit-"
SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}  # of a dataset with one split
HELD_OUT = {"train": 0.8, "val": 0.2}  # of the training split of a dataset with a split to report
POOLS = ("trainval", "train", "all")


@dataclass(frozen=True)
class FitSplits:
    """Names of the splits for training, model selection and reporting.

    Attributes:
        dataset: Dataset, including added splits.
        train: Training split.
        sample: Training split, or a part of it, for the comparison of heads on frozen features.
        val: Split for model selection.
        test: Split whose metrics are reported; it is not used for model selection.
    """

    dataset: Dataset
    train: str
    sample: str
    val: str
    test: str


def fit_splits(dataset: Dataset, seed: int = 0, progress: Progress = SILENT) -> FitSplits:
    """Return the splits for `mlrec fit`, and add missing splits to the dataset.

    Existing splits do not change. Splits without positives are ignored. A dataset with the splits train, val and test,
    and without trainval, is used without changes. In other datasets, test (otherwise val) is reported, and a fifth of
    trainval (otherwise train, otherwise all) is held out for model selection; trainval is not used if val is reported.
    Images that are also in the reported split are not used for training or model selection. In a dataset without test
    and val, the first of these splits is divided into 60% for training, 20% for model selection, and 20% for the
    report. Label prevalence is preserved as far as possible, and near-duplicate images stay in the same part.

    Raises:
        UsageError: No split can be divided, or the split has too few samples.
    """
    made = dataset.info.source.get(MADE, {})
    own = [name for name in dataset.info.splits if name not in made and has_labels(dataset.manifest(name))]
    if {"train", "val", "test"} <= set(own) and "trainval" not in own:
        return FitSplits(dataset, "train", "train", "val", "test")
    test = next((name for name in ("test", "val") if name in own), None)
    pools = [name for name in POOLS if name in own and not (test == "val" and name == "trainval")]
    if not pools:
        raise UsageError(
            f"{dataset.path}: no split can be used for training (splits: {', '.join(dataset.info.splits)}); add a "
            f"split with one of the names {', '.join(POOLS)}"
        )
    shares = SHARES if test is None else HELD_OUT
    names = [PREFIX + part for part in shares]
    if not all(name in made and made[name] == pools[0] for name in names):
        dataset = _divided(dataset, _pool(dataset, pools[0], test), names, list(shares.values()), seed, progress)
    return FitSplits(dataset, names[0], names[0], names[1], test or names[2])


def limited(dataset: Dataset, split: str, most: int, seed: int = 0) -> tuple[Dataset, str]:
    """Return the dataset, and the name of a split with at most `most` random samples of `split`.

    If `split` has at most `most` samples, its name is returned; otherwise, a new split is added to the dataset.
    """
    manifest = dataset.manifest(split)
    if len(manifest) <= most:
        return dataset, split
    rows = np.sort(np.random.default_rng(seed).choice(len(manifest), most, replace=False))
    name = f"{PREFIX}{split.removeprefix(PREFIX)}-{most}"
    return add_splits(dataset, manifest, [manifest.subset(rows, name)]), name


def restored(splits: FitSplits, known: Mapping[str, str]) -> FitSplits:
    """Return the splits of an interrupted fit.

    Preparing the dataset again removes the added splits, so random parts that no longer exist are created again.

    Args:
        splits: Splits of a new fit.
        known: Names of the splits of the interrupted fit; files of earlier versions have no `sample`.

    Raises:
        UsageError: A split no longer exists, and its name does not end with a number of random samples.
    """
    if not known:
        return splits
    for part, name in {"sample": known["train"], **known}.items():
        dataset, most = splits.dataset, name.rpartition("-")[2]
        if name not in dataset.info.splits:
            if not most.isdecimal():
                raise UsageError(f"{dataset.path}: split {name} no longer exists; choose a different --name")
            dataset, name = limited(dataset, getattr(splits, part), int(most))
        splits = replace(splits, dataset=dataset, **{part: name})
    return splits


def _pool(dataset: Dataset, name: str, test: str | None) -> Manifest:
    """Return the split to divide, without the images that are also in the reported split."""
    manifest = dataset.manifest(name)
    if test is None:
        return manifest
    reported = set(dataset.manifest(test).images)
    return manifest.subset([row for row, image in enumerate(manifest.images) if image not in reported])


def _divided(
    dataset: Dataset, pool: Manifest, names: list[str], shares: list[float], seed: int, progress: Progress
) -> Dataset:
    groups = sample_groups(dataset, pool, column=None, file=None, near_duplicates=True, progress=progress)
    weights = np.array(shares) / sum(shares)
    part = stratified(pool.targets, groups, weights.tolist(), seed)
    parts = [pool.subset(np.flatnonzero(part == k), name) for k, name in enumerate(names)]
    tuned = len(set(parts[1].images))  # the images on which thresholds are tuned
    if tuned < 2 or not all(has_labels(manifest) for manifest in parts):
        raise UsageError(
            f"{dataset.path}: split {pool.split} has too few samples to divide; add images or a test split"
        )
    sizes = ", ".join(f"{manifest.split} {len(manifest):,}" for manifest in parts)
    logger.info(f"splits: {pool.split} is divided into {sizes}")
    return add_splits(dataset, pool, parts)
