"""`mlrec split`: a validation split, or folds, in which every label keeps its prevalence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.analysis.split import prevalence_error, random_parts, stratified
from mlrec.datasets.analysis.statistics import NOT_LEARNED, NOT_SCORED, label_gaps
from mlrec.datasets.dataset import Dataset, write
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.split_names import usual_order
from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils.errors import UsageError, printable
from mlrec.utils.files import changed_folder
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.data.groupings import sample_groups

RANDOM_SPLITS = 20
POOLS = ("trainval", "all", "train")
MADE = "made"  # in `source` of dataset.json: the splits made here, and of which each is a part


@dataclass(frozen=True)
class NewSplits:
    """What was made.

    Attributes:
        dataset: with the new splits in it.
        pool: the split that was divided.
        sizes: samples of each new split.
        groups: how many groups of samples were kept together, each with two samples or more.
        error: distance of prevalences between held-out part and pool, mean over labels and folds, a fraction.
        random_error: the median of the same over 20 random splits.
    """

    dataset: Dataset
    pool: str
    sizes: dict[str, int]
    groups: int
    error: float
    random_error: float

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
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
    """Divide one split of a dataset, and add the parts to it.

    The parts are `train` and `val`, or `fold0-train`, `fold0-val`, `fold1-train`, ... Where the pool is `train` itself
    and is divided in two, it is kept whole as `trainval`. `test` is never touched. Persons of one image, samples that
    share a value of `group`, and images that show the same photograph come into one part.

    Args:
        data: folder of a prepared dataset; the one prepared last where None.
        val: share of the samples that is held out.
        folds: make so many folds instead, each sample held out in one of them.
        group: column of `groups_file` whose equal values belong together.
        groups_file: CSV `filename,...`; by default the one that the dataset was prepared from.
        pool: the split to divide; by default trainval, else all, else train.
        prefix: put before the names of the new splits.
        near_duplicates: look at the images, where they are there, for the same photograph twice.
        seed: another seed, another division.
        progress: is told what was filled in, and labels that a part lacks.

    Raises:
        UsageError: shares, folds or a pool that make no sense, or names that are already taken.
        DataError: no such dataset, split or column.
    """
    if folds is None and not 0 < val < 1:
        raise UsageError(f"--val {val}: give the share that is held out, between 0 and 1")
    if folds is not None and folds < 2:
        raise UsageError(f"--folds {folds}: at least 2")
    dataset = Dataset.load(data) if data is not None else Dataset.latest()
    divided = _pool(dataset, pool)
    names = _names(dataset, divided.split, folds, prefix)
    groups = sample_groups(
        dataset, divided, column=group, file=groups_file, near_duplicates=near_duplicates, progress=progress
    )
    shares = [1 - val, val] if folds is None else [1 / folds] * folds
    held_out = [1] if folds is None else list(range(folds))
    part = stratified(divided.targets, groups, shares, seed)
    parts = [
        divided.subset(np.flatnonzero((part == k) == chosen), name)
        for k, pair in zip(held_out, names, strict=True)
        for chosen, name in zip((False, True), pair, strict=True)
    ]
    held_out_names = {second for _, second in names}
    for made in parts:
        if not len(made):
            raise UsageError(f"split '{made.split}' would be empty: too few groups of samples; hold out another share")
        for line in label_gaps(made).lines(NOT_SCORED if made.split in held_out_names else NOT_LEARNED):
            progress.warn(line)
    errors = [_error(divided.targets, random_parts(groups, shares, seed + k), held_out) for k in range(RANDOM_SPLITS)]
    updated = _add(dataset, divided, parts, outdated=f"{prefix}fold" if folds is not None else None)
    return NewSplits(
        dataset=updated,
        pool=divided.split,
        sizes={made.split: len(made) for made in parts},
        groups=int((np.bincount(groups) > 1).sum()),
        error=_error(divided.targets, part, held_out),
        random_error=float(np.median(errors)),
    )


def summary(made: NewSplits) -> Table:
    """The new splits, and how well they keep prevalences."""
    columns = (Column("split", "split"), Column("samples", "samples", "count"))
    rows = tuple(Row((name, size)) for name, size in made.sizes.items())
    notes = (
        f"distance of prevalences: {100 * made.error:.3f} points; of random splits {100 * made.random_error:.3f}",
        f"groups kept together: {made.groups:,}",
    )
    return Table(f"{made.dataset.info.name}: {made.pool} divided", columns, rows, notes)


def _pool(dataset: Dataset, asked: str | None) -> Manifest:
    made = dataset.info.source.get(MADE, {})
    there = [name for name in dataset.info.splits if name not in made]
    if asked == "test":
        raise UsageError("test is never divided: what is tuned on a part of it is no test any more")
    name = asked or next((name for name in POOLS if name in there), None)
    if name is None:
        raise UsageError(f"{printable(dataset.path)}: none of {', '.join(POOLS)} to divide; name one with --from")
    manifest = dataset.manifest(name)
    if "test" not in dataset.info.splits:
        return manifest
    tested = set(dataset.manifest("test").images)
    return manifest.subset([k for k, image in enumerate(manifest.images) if image not in tested])


def _names(dataset: Dataset, pool: str, folds: int | None, prefix: str) -> list[tuple[str, str]]:
    """Names of training and held-out part, for each fold; a name of the source's own splits is refused."""
    pairs = [("train", "val")] if folds is None else [(f"fold{k}-train", f"fold{k}-val") for k in range(folds)]
    pairs = [(prefix + train, prefix + val) for train, val in pairs]
    made = dataset.info.source.get(MADE, {})
    for name in (name for pair in pairs for name in pair):
        if not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"--prefix '{printable(prefix)}': use letters, digits, - and _")
        if name in dataset.info.splits and name not in made and not name == pool == "train":
            raise UsageError(
                f"{printable(dataset.path)}: has a split '{name}' of its own, which stays; "
                "name the new ones with --prefix, or make --folds"
            )
    return pairs


def _error(targets: NDArray[np.int8], part: NDArray[np.intp], held_out: Sequence[int]) -> float:
    return float(np.mean([prevalence_error(targets, part == k) for k in held_out]))


def _add(dataset: Dataset, pool: Manifest, parts: Sequence[Manifest], outdated: str | None) -> Dataset:
    """Add the new splits and drop earlier ones whose names begin with `outdated`, all at once.

    File by file, a kill in between would leave parts of two divisions, or a part where the whole was.
    """
    info = dataset.info
    sizes, origins = dict(info.splits), dict(info.source.get(MADE, {}))
    gone = [name for name in origins if outdated is not None and name.startswith(outdated)]
    for name in gone:
        del sizes[name], origins[name]
    whole, written = pool.split, list(parts)
    if whole in {made.split for made in parts}:
        whole = "trainval"
        written.append(pool.subset(np.arange(len(pool)), whole))
    sizes |= {made.split: len(made) for made in written}
    origins |= {made.split: whole for made in parts}
    updated = msgspec.structs.replace(
        info,
        splits={name: sizes[name] for name in sorted(sizes, key=usual_order)},
        source={**info.source, MADE: origins},
    )
    with changed_folder(dataset.path) as folder:
        for name in gone:
            (folder / dataset.manifest_path(name).name).unlink(missing_ok=True)
        write(folder, updated, written)
    return Dataset(dataset.path, updated)
