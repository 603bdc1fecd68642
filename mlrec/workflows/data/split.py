"""`mlrec split`: a stratified validation split, or stratified folds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.analysis.split import prevalence_error, random_parts, stratified
from mlrec.datasets.dataset import NOT_LEARNED, NOT_SCORED, Dataset, label_gaps, load_or_latest, write
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.manifest_storage import SparseTargets, cache_path
from mlrec.datasets.split_names import usual_order
from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils.errors import UsageError
from mlrec.utils.files import changed_folder
from mlrec.utils.progress import SILENT, Progress
from mlrec.utils.texts import shared_with
from mlrec.workflows.data.groupings import sample_groups

logger = logging.getLogger(__name__)
RANDOM_SPLITS = 20
POOLS = ("trainval", "all", "train")
MADE = "made"  # key in `source` of dataset.json: the splits written here, and the split that each is a part of


@dataclass(frozen=True)
class NewSplits:
    """New splits of a dataset, and their balance.

    Attributes:
        dataset: Dataset with the new splits.
        pool: Divided split.
        sizes: Number of samples in each new split.
        groups: Number of groups with two or more samples that were kept together.
        error: Absolute difference in label prevalence between the held-out part and the pool, as a fraction; mean over
            all labels and folds.
        random_error: Median of the same difference over 20 random splits, for comparison with `error`.
    """

    dataset: Dataset
    pool: str
    sizes: dict[str, int]
    groups: int
    error: float
    random_error: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-compatible data that `mlrec split --json` prints."""
        return {
            "path": str(self.dataset.path),
            "pool": self.pool,
            "splits": self.sizes,
            "groups": self.groups,
            "prevalence_error": self.error,
            "random_prevalence_error": self.random_error,
        }


def split(
    data: Path | None = None,
    *,
    val: float = 0.2,
    folds: int | None = None,
    group: str | None = None,
    groups_file: Path | None = None,
    pool: str | None = None,
    prefix: str = "",
    near_duplicates: bool = True,
    seed: int = 0,
    progress: Progress = SILENT,
) -> NewSplits:
    """Divide one split of a dataset into parts and add them to the dataset as new splits.

    The parts are `train` and `val`, or `fold0-train`, `fold0-val`, `fold1-train`, ..., after `prefix`. If the pool is
    `train` and a part has the same name, the whole pool is kept as `trainval`. Parts with these names from an earlier
    division are replaced, and all earlier folds with this prefix are removed if new folds are created. `test` is never
    divided, and images that are also in `test` are omitted. Persons in the same image, samples with the same value of
    `group`, and (with `near_duplicates`) duplicate images stay in the same part.

    Args:
        data: Folder of a prepared dataset; by default the most recently prepared dataset.
        val: Fraction of the samples to hold out, not used with `folds`.
        folds: Number of folds for cross-validation, instead of one validation split.
        group: Column of `groups_file`; samples with equal values stay together.
        groups_file: Table with a column of image names and the column `group`; by default the file from which the
            dataset was prepared.
        pool: Split to divide; by default the first existing split of `trainval`, `all` and `train`.
        prefix: Prefix for the names of the new splits.
        near_duplicates: Whether to keep duplicate images together, if the image files exist.
        seed: Random seed.
        progress: Progress display.

    Raises:
        UsageError: The fraction, the number of folds, the pool or the prefix is invalid, a part would be empty, or a
            part has the name of an original split.
        DataError: The dataset, split or column does not exist.
    """
    if folds is None and not 0 < val < 1:
        raise UsageError(f"--val must be a fraction between 0 and 1, got {val}")
    if folds is not None and folds < 2:
        raise UsageError(f"--folds must be at least 2, got {folds}")
    dataset = load_or_latest(data)
    divided = pool_of(dataset, pool)
    names = _names(dataset, divided.split, folds, prefix)
    groups = sample_groups(
        dataset, divided, column=group, file=groups_file, near_duplicates=near_duplicates, progress=progress
    )
    shares, held_out = [1 - val, val], [1]
    outdated: list[str] = []
    if folds is not None:
        shares, held_out = [1 / folds] * folds, list(range(folds))
        outdated = [name for name in dataset.info.source.get(MADE, {}) if name.startswith(f"{prefix}fold")]
    targets = divided.sparse_targets
    part = stratified(targets, groups, shares, seed)
    parts = [
        divided.subset(np.flatnonzero((part == k) == chosen), name)
        for k, pair in zip(held_out, names, strict=True)
        for chosen, name in zip((False, True), pair, strict=True)
    ]
    held_out_names = {second for _, second in names}
    for manifest in parts:
        if not len(manifest):
            raise UsageError(
                f"split '{manifest.split}' would be empty, because there are too few groups; change --val or --folds"
            )
        consequence = NOT_SCORED if manifest.split in held_out_names else NOT_LEARNED
        for line in label_gaps(manifest).lines(consequence):
            logger.warning(line)
    errors = [_error(targets, random_parts(groups, shares, seed + k), held_out) for k in range(RANDOM_SPLITS)]
    updated = add_splits(dataset, divided, parts, outdated=outdated)
    return NewSplits(
        dataset=updated,
        pool=divided.split,
        sizes={manifest.split: len(manifest) for manifest in parts},
        groups=int((np.bincount(groups) > 1).sum()),
        error=_error(targets, part, held_out),
        random_error=float(np.median(errors)),
    )


def summary(splits: NewSplits) -> Table:
    """Return the table of the new splits, with the difference in label prevalence as a footnote."""
    columns = (Column("split", "split"), Column("samples", "samples", "count"))
    rows = tuple(Row((name, size)) for name, size in splits.sizes.items())
    notes = (
        f"mean difference in label prevalence between the held-out part and {splits.pool}: "
        f"{100 * splits.error:.3f} points (random splits: {100 * splits.random_error:.3f} points)",
        f"groups kept together: {splits.groups:,}",
    )
    return Table(f"{splits.dataset.info.name}: {splits.pool} divided", columns, rows, notes)


def pool_of(dataset: Dataset, name: str | None) -> Manifest:
    """Return the split to divide or copy, without the images that are also in `test`.

    The default is the first existing split of `trainval`, `all` and `train`.

    Raises:
        UsageError: The split is `test`, or there is no split to divide.
        DataError: The split does not exist.
    """
    written = dataset.info.source.get(MADE, {})
    own = [split for split in dataset.info.splits if split not in written]
    if name == "test":
        raise UsageError(
            "the test split cannot be divided, because tuning on part of the test split would invalidate the test "
            "results; choose a different split with --from"
        )
    name = name or next((pool for pool in POOLS if pool in own), None)
    if name is None:
        raise UsageError(
            f"{dataset.path}: none of the splits {', '.join(POOLS)} exists; choose the split to divide with --from"
        )
    manifest = dataset.manifest(name)
    if "test" not in dataset.info.splits:
        return manifest
    tested = shared_with(manifest.images, dataset.manifest("test").images)
    return manifest.subset(np.flatnonzero(~tested)) if tested.any() else manifest


def _names(dataset: Dataset, pool: str, folds: int | None, prefix: str) -> list[tuple[str, str]]:
    """Return the training and held-out names of each fold; names of original splits raise an error."""
    prefixes = [prefix]
    if folds is not None:
        prefixes = [f"{prefix}fold{k}-" for k in range(folds)]
    pairs = [(f"{start}train", f"{start}val") for start in prefixes]
    written = dataset.info.source.get(MADE, {})
    for name in (name for pair in pairs for name in pair):
        if not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"--prefix '{prefix}': invalid character; use only letters, digits, - and _")
        if name in dataset.info.splits and name not in written and not name == pool == "train":
            raise UsageError(
                f"{dataset.path}: split '{name}' already exists and is not overwritten; set --prefix, or use --folds"
            )
    return pairs


def _error(targets: SparseTargets, part: NDArray[np.intp], held_out: Sequence[int]) -> float:
    return float(np.mean([prevalence_error(targets, part == k) for k in held_out]))


def add_splits(dataset: Dataset, pool: Manifest, parts: Sequence[Manifest], outdated: Sequence[str] = ()) -> Dataset:
    """Atomically add the new splits of `pool`, and remove outdated splits.

    If files were replaced one by one, a killed process could leave a mixture of old and new splits. The splits that
    other commands have added since `dataset` was loaded are kept.
    """
    info = Dataset.load(dataset.path).info
    sizes, origins = dict(info.splits), dict(info.source.get(MADE, {}))
    removed = [name for name in outdated if name in origins]
    for name in removed:
        del sizes[name], origins[name]
    whole, written = pool.split, list(parts)
    if whole in {manifest.split for manifest in parts}:  # its part takes its name, so the whole is kept under another
        whole = "trainval"
        written.append(pool.subset(np.arange(len(pool)), whole))
    sizes |= {manifest.split: len(manifest) for manifest in written}
    origins |= {manifest.split: whole for manifest in parts}
    updated = msgspec.structs.replace(
        info,
        splits={name: sizes[name] for name in sorted(sizes, key=usual_order)},
        source={**info.source, MADE: origins},
    )
    with changed_folder(dataset.path) as folder:
        for name in removed:
            manifest = folder / dataset.manifest_path(name).name
            manifest.unlink(missing_ok=True)
            cache_path(manifest).unlink(missing_ok=True)
        write(folder, updated, written)
    return Dataset(dataset.path, updated)
