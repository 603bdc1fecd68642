"""`mlrec split --keep-labels`: copies of a training split in which some annotations are unknown.

The copies are used to compare losses for missing labels on the user's data, with the complete annotations as reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.dataset import Dataset, load_or_latest
from mlrec.datasets.manifest import POSITIVE, UNKNOWN, Manifest
from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils.errors import UsageError
from mlrec.workflows.data.split import MADE, add_splits, pool_of

Targets = NDArray[np.int8]


@dataclass(frozen=True)
class HiddenLabels:
    """New splits in which some annotations are hidden.

    Attributes:
        dataset: Dataset with the new splits.
        whole: Copied split.
        counts: Numbers of known positives, known negatives and unknown targets in each new split, by split name.
    """

    dataset: Dataset
    whole: str
    counts: dict[str, tuple[int, int, int]]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-compatible data that `mlrec split --keep-labels --json` prints."""
        keys = ("positives", "negatives", "unknown")
        splits = {name: dict(zip(keys, counts, strict=True)) for name, counts in self.counts.items()}
        return {"path": str(self.dataset.path), "whole": self.whole, "splits": splits}


def hide_labels(
    data: Path | None = None,
    *,
    keep: Sequence[float] = (),
    single_positive: bool = False,
    whole: str | None = None,
    seed: int = 0,
) -> HiddenLabels:
    """Add copies of a split in which some annotations are unknown: `train-keep30`, ..., `train-single`.

    Earlier copies with the same names are replaced. All other splits remain unchanged. Images that are also in `test`
    are omitted. Each known target is kept with the specified probability, independently of all others.
    `single_positive` keeps one random positive of each sample and no negative (Cole et al., CVPR 2021).

    Args:
        data: Folder of a prepared dataset; by default the most recently prepared dataset.
        keep: Fractions of known targets to keep, each between 0 and 1.
        single_positive: Whether to add the split with one positive per sample.
        whole: Split to copy; by default the first existing split of `trainval`, `all` and `train`.
        seed: Random seed.

    Raises:
        UsageError: A fraction is not between 0 and 1, the split is `test`, or the name of a new split is already in
            use.
        DataError: The dataset or the split does not exist.
    """
    for share in keep:
        if not 0 < share < 1:
            raise UsageError(f"--keep-labels must be a fraction between 0 and 1, got {share:g}")
    dataset = load_or_latest(data)
    manifest = pool_of(dataset, whole)
    made = {f"{manifest.split}-keep{100 * share:.6g}": kept(manifest.targets, share, seed) for share in keep}
    if single_positive:
        made[f"{manifest.split}-single"] = one_positive(manifest.targets, seed)
    parts = []
    for name, targets in made.items():
        taken = name in dataset.info.splits and name not in dataset.info.source.get(MADE, {})
        if taken:
            raise UsageError(f"{dataset.path}: split '{name}' already exists; rename the existing split")
        parts.append(replace(manifest, split=name, targets=targets))
    return HiddenLabels(
        dataset=add_splits(dataset, manifest, parts),
        whole=manifest.split,
        counts={part.split: _counts(part) for part in parts},
    )


def kept(targets: Targets, share: float, seed: int) -> Targets:
    """Keep each known target with probability `share`; all other targets become unknown.

    With the same seed, all targets kept at a smaller fraction are also kept at a larger fraction, so that fractions can
    be compared.

    Example:
        >>> kept(np.ones((2, 3), np.int8), 0.5, 0).tolist()
        [[-1, 1, 1], [1, -1, -1]]
    """
    draws = np.random.default_rng(seed).random(targets.shape)
    return np.where(draws < share, targets, UNKNOWN).astype(np.int8)


def one_positive(targets: Targets, seed: int) -> Targets:
    """Keep one random positive of each sample; all other targets become unknown.

    Example:
        >>> one_positive(np.array([[1, 0, 1], [0, 0, -1]], np.int8), 0).tolist()
        [[1, -1, -1], [-1, -1, -1]]
    """
    draws = np.where(targets == POSITIVE, np.random.default_rng(seed).random(targets.shape), 0.0)
    single = np.full_like(targets, UNKNOWN)
    rows = np.flatnonzero(draws.any(axis=1))
    single[rows, draws[rows].argmax(axis=1)] = POSITIVE
    return single


def summary(hidden: HiddenLabels) -> Table:
    """Return the table of the new splits."""
    columns = (
        Column("split", "split"),
        Column("positives", "known positives", "count"),
        Column("negatives", "known negatives", "count"),
        Column("unknown", "unknown", "count"),
    )
    rows = tuple(Row((name, *counts)) for name, counts in hidden.counts.items())
    return Table(f"{hidden.dataset.info.name}: {hidden.whole} with hidden annotations", columns, rows, ())


def _counts(manifest: Manifest) -> tuple[int, int, int]:
    positives = int((manifest.targets == POSITIVE).sum())
    unknown = int((manifest.targets == UNKNOWN).sum())
    return positives, manifest.targets.size - positives - unknown, unknown
