"""`mlrec duplicates`: find duplicate and near-duplicate images within and across splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from mlrec.datasets.analysis import near_duplicates
from mlrec.datasets.analysis.fingerprints import FingerprintCache
from mlrec.datasets.analysis.groups import connected
from mlrec.datasets.analysis.near_duplicates import ALIKE, Fingerprint
from mlrec.datasets.dataset import FINGERPRINTS_FILE, load_or_latest
from mlrec.datasets.manifest import Manifest
from mlrec.reports.figures.contact_sheet import SheetRow, Tile
from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils.errors import DataError, counted
from mlrec.utils.progress import SILENT, Progress
from mlrec.utils.threads import thread_map


@dataclass(frozen=True)
class Duplicate:
    """Pair of duplicate image files in a dataset.

    Attributes:
        first, second: Paths relative to the root.
        first_splits, second_splits: Splits that contain the first and the second image.
        exact: Whether the files are identical. If False, one file is a near-duplicate of the other (re-encoded or
            resized).
        correlation: Correlation between the thumbnails of both images.
        leak: Whether one image is in `test` and the other is only in other splits. Such a pair makes test scores too
            high.
        labels_differ: Whether the targets of the two images differ.
    """

    first: str
    second: str
    first_splits: tuple[str, ...]
    second_splits: tuple[str, ...]
    exact: bool
    correlation: float
    leak: bool
    labels_differ: bool


@dataclass(frozen=True)
class Duplicates:
    """Duplicate images in a dataset, as pairs and groups.

    Attributes:
        name: Name of the dataset.
        images: Number of compared images.
        unreadable: Number of images that could not be read.
        pairs: Pairs of duplicates.
        groups: Groups of image names. Two images are in the same group if they are connected by pairs.
        root: Folder of the images.
    """

    name: str
    images: int
    unreadable: int
    pairs: list[Duplicate]
    groups: list[list[str]]
    root: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-compatible data that `mlrec duplicates --json` prints."""
        content: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        return content


def find_duplicates(data: Path | None = None, *, alike: float = ALIKE, progress: Progress = SILENT) -> Duplicates:
    """Find duplicate and near-duplicate images in a dataset.

    Args:
        data: Folder of a prepared dataset; by default the most recently prepared dataset.
        alike: Minimum thumbnail correlation of near-duplicates, from 0 to 1.
        progress: Progress display.

    Raises:
        DataError: The dataset does not exist, or none of its images can be read.
    """
    dataset = load_or_latest(data)
    manifests = [dataset.manifest(split) for split in dataset.info.splits]
    names = list(dict.fromkeys(image for manifest in manifests for image in manifest.images))
    root = manifests[0].root
    prints = fingerprints(dataset.path, root, names, progress)
    if names and not prints:
        raise DataError(f"{root}: no image of the dataset can be read ({len(names):,} tried); check the folder")
    known = list(prints)
    pairs = near_duplicates.pairs([prints[name] for name in known], alike)
    groups = connected(len(known), [(pair.first, pair.second) for pair in pairs])
    members: dict[int, list[str]] = {}
    for name, group in zip(known, groups.tolist(), strict=True):
        members.setdefault(group, []).append(name)
    return Duplicates(
        name=dataset.info.name,
        images=len(known),
        unreadable=len(names) - len(known),
        pairs=_duplicates(manifests, [(known[p.first], known[p.second], p.exact, p.correlation) for p in pairs]),
        groups=[group for group in members.values() if len(group) > 1],
        root=root,
    )


def fingerprints(folder: Path, root: Path, names: Sequence[str], progress: Progress) -> dict[str, Fingerprint]:
    """Return the fingerprints of all readable images by image name; fingerprints are cached in `folder`."""
    cache = FingerprintCache.load(folder / FINGERPRINTS_FILE, root, names)
    read = partial(_fingerprint, root)
    with progress.task("reading images", len(cache.missing)) as step, thread_map(read, cache.missing) as results:
        for name, fingerprint in zip(cache.missing, results, strict=True):
            if fingerprint is not None:
                cache.prints[name] = fingerprint
            step()
    if cache.missing:
        cache.save(folder / FINGERPRINTS_FILE)
    return {name: cache.prints[name] for name in names if name in cache.prints}


def summary(duplicates: Duplicates) -> Table:
    """Return the table of duplicate pairs; pairs that connect `test` with another split come first."""
    columns = (
        Column("first", "image"),
        Column("first_splits", "in"),
        Column("second", "and"),
        Column("second_splits", "in"),
        Column("kind", "is"),
        Column("correlation", "correlation", "number"),
        Column("note", ""),
    )
    rows = [
        Row(
            (
                pair.first,
                ", ".join(pair.first_splits),
                pair.second,
                ", ".join(pair.second_splits),
                "duplicate" if pair.exact else "near-duplicate",
                round(pair.correlation, 4),
                _note(pair),
            )
        )
        for pair in sorted(duplicates.pairs, key=lambda pair: (not pair.leak, not pair.labels_differ))
    ]
    exact = sum(pair.exact for pair in duplicates.pairs)
    leaks = sum(pair.leak for pair in duplicates.pairs)
    notes = [
        f"{counted(duplicates.images, 'image')}: {counted(exact, 'pair')} of identical files, "
        f"{counted(len(duplicates.pairs) - exact, 'pair')} of near-duplicates; {counted(leaks, 'pair')} between "
        "test and another split"
    ]
    if duplicates.unreadable:
        notes.append(f"{counted(duplicates.unreadable, 'unreadable image')} skipped")
    return Table(f"{duplicates.name}: duplicate images", columns, tuple(rows), tuple(notes))


def pages(duplicates: Duplicates) -> list[SheetRow]:
    """Return the rows of the contact sheet, one per group of duplicates."""
    splits = {pair.first: pair.first_splits for pair in duplicates.pairs}
    splits |= {pair.second: pair.second_splits for pair in duplicates.pairs}
    return [
        SheetRow("", tuple(Tile(duplicates.root / name, f"{name} ({', '.join(splits[name])})") for name in group))
        for group in duplicates.groups
    ]


def _note(pair: Duplicate) -> str:
    notes = []
    if pair.leak:
        notes.append("LEAK into test")
    if pair.labels_differ:
        notes.append("labels differ")
    return ", ".join(notes)


def _duplicates(manifests: Sequence[Manifest], pairs: Sequence[tuple[str, str, bool, float]]) -> list[Duplicate]:
    splits: dict[str, list[str]] = {}
    annotated: dict[str, set[bytes]] = {}
    for manifest in manifests:
        for image, targets in zip(manifest.images, manifest.targets, strict=True):
            if manifest.split not in splits.setdefault(image, []):
                splits[image].append(manifest.split)
            annotated.setdefault(image, set()).add(targets.tobytes())
    return [
        Duplicate(
            first=first,
            second=second,
            first_splits=tuple(splits[first]),
            second_splits=tuple(splits[second]),
            exact=exact,
            correlation=correlation,
            leak=("test" in splits[first]) != ("test" in splits[second]),
            labels_differ=annotated[first] != annotated[second],
        )
        for first, second, exact, correlation in pairs
    ]


def _fingerprint(root: Path, name: str) -> Fingerprint | None:
    try:
        return near_duplicates.fingerprint(root / name)
    except DataError:  # prepare has reported it, or the user skipped it
        return None
