"""`mlrec duplicates`: the same photograph twice, within a split or across splits."""

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
from mlrec.datasets.dataset import FINGERPRINTS_FILE, Dataset
from mlrec.datasets.manifest import Manifest
from mlrec.reports.figures.contact_sheet import SheetRow, Tile
from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils.errors import DataError, counted
from mlrec.utils.progress import SILENT, Progress
from mlrec.utils.threads import thread_map


@dataclass(frozen=True)
class Twin:
    """Two image files of one dataset that show the same photograph.

    Attributes:
        first, second: their paths below the root.
        first_splits, second_splits: where they stand.
        exact: the same bytes; else the same picture, re-encoded or resized.
        correlation: of their thumbnails.
        leak: one is in `test` and the other in another split, so a test on it is not honest.
        labels_differ: their targets are not the same.
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
class Twins:
    """What was found among `images` image files: pairs, and groups of more that belong together through them."""

    name: str
    images: int
    unreadable: int
    pairs: list[Twin]
    groups: list[list[str]]
    root: Path

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        content: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        return content


def find_duplicates(data: Path | None = None, *, alike: float = ALIKE, progress: Progress = SILENT) -> Twins:
    """Compare all images of a dataset with each other.

    Args:
        data: folder of a prepared dataset; the one prepared last where None.
        alike: correlation of thumbnails from which on two images are the same, 0 to 1.
        progress: shows the reading of the images.

    Raises:
        DataError: no such dataset, or not one of its images can be read.
    """
    dataset = Dataset.load(data) if data is not None else Dataset.latest()
    manifests = [dataset.manifest(split) for split in dataset.info.splits]
    names = list(dict.fromkeys(image for manifest in manifests for image in manifest.images))
    root = manifests[0].root
    prints = fingerprints(dataset.path, root, names, progress)
    if names and not prints:
        raise DataError(f"{root}: none of the {counted(len(names), 'image')} can be read; is the data still there?")
    known = list(prints)
    pairs = near_duplicates.pairs([prints[name] for name in known], alike)
    groups = connected(len(known), [(pair.first, pair.second) for pair in pairs])
    members: dict[int, list[str]] = {}
    for name, group in zip(known, groups.tolist(), strict=True):
        members.setdefault(group, []).append(name)
    return Twins(
        name=dataset.info.name,
        images=len(known),
        unreadable=len(names) - len(known),
        pairs=_twins(manifests, [(known[p.first], known[p.second], p.exact, p.correlation) for p in pairs]),
        groups=[group for group in members.values() if len(group) > 1],
        root=root,
    )


def fingerprints(folder: Path, root: Path, names: Sequence[str], progress: Progress) -> dict[str, Fingerprint]:
    """The fingerprint of each image that can be read, by name; those of unchanged files are kept in `folder`."""
    cache = FingerprintCache.load(folder / FINGERPRINTS_FILE, root, names)
    read = partial(_fingerprint, root)
    with progress.task("reading images", len(cache.missing)) as step, thread_map(read, cache.missing) as results:
        for name, found in zip(cache.missing, results, strict=True):
            if found is not None:
                cache.prints[name] = found
            step()
    if cache.missing:
        cache.save(folder / FINGERPRINTS_FILE)
    return {name: cache.prints[name] for name in names if name in cache.prints}


def summary(twins: Twins) -> Table:
    """The pairs, the leaks first."""
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
                twin.first,
                ", ".join(twin.first_splits),
                twin.second,
                ", ".join(twin.second_splits),
                "the same file" if twin.exact else "alike",
                round(twin.correlation, 4),
                ", ".join(
                    note
                    for note, holds in (("LEAK into test", twin.leak), ("other labels", twin.labels_differ))
                    if holds
                ),
            )
        )
        for twin in sorted(twins.pairs, key=lambda twin: (not twin.leak, not twin.labels_differ))
    ]
    exact, leaks = (sum(getattr(twin, kind) for twin in twins.pairs) for kind in ("exact", "leak"))
    notes = [
        f"{counted(twins.images, 'image')}: {counted(exact, 'pair')} of the same file, "
        f"{counted(len(twins.pairs) - exact, 'pair')} alike, "
        f"{leaks} of all across test and another split"
    ]
    if twins.unreadable:
        notes.append(f"{counted(twins.unreadable, 'image')} could not be read and were left out")
    return Table(f"{twins.name}: photographs that stand twice", columns, tuple(rows), tuple(notes))


def pages(twins: Twins) -> list[SheetRow]:
    """The contact sheet: a line of pictures for each group of twins."""
    splits = {twin.first: twin.first_splits for twin in twins.pairs}
    splits |= {twin.second: twin.second_splits for twin in twins.pairs}
    return [
        SheetRow("", tuple(Tile(twins.root / name, f"{name} ({', '.join(splits[name])})") for name in group))
        for group in twins.groups
    ]


def _twins(manifests: Sequence[Manifest], pairs: Sequence[tuple[str, str, bool, float]]) -> list[Twin]:
    splits: dict[str, list[str]] = {}
    said: dict[str, set[bytes]] = {}
    for manifest in manifests:
        for image, targets in zip(manifest.images, manifest.targets, strict=True):
            if manifest.split not in splits.setdefault(image, []):
                splits[image].append(manifest.split)
            said.setdefault(image, set()).add(targets.tobytes())
    return [
        Twin(
            first=first,
            second=second,
            first_splits=tuple(splits[first]),
            second_splits=tuple(splits[second]),
            exact=exact,
            correlation=correlation,
            leak=("test" in splits[first]) != ("test" in splits[second]),
            labels_differ=said[first] != said[second],
        )
        for first, second, exact, correlation in pairs
    ]


def _fingerprint(root: Path, name: str) -> Fingerprint | None:
    try:
        return near_duplicates.fingerprint(root / name)
    except DataError:  # prepare has told of it, or the user left it out
        return None
