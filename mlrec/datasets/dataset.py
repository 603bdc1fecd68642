"""`Dataset`: the folder `data/<name>` written by `prepare`.

The folder contains one manifest per split and `dataset.json`. The module also finds labels whose AP is undefined in a
split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import POSITIVE, UNKNOWN, Manifest
from mlrec.datasets.manifest_storage import cache_path
from mlrec.utils.errors import DataError, counted, nearest
from mlrec.utils.files import is_temporary, read_own_json, write_json

DATASET_FILE = "dataset.json"
FINGERPRINTS_FILE = "fingerprints.npz"
IMAGES_FOLDER = "images"  # images that the source stores inside other files
NOT_SCORED = "so the AP of these labels is undefined"
NOT_LEARNED = "so a model trained on this split cannot learn them"


class Info(msgspec.Struct, frozen=True):
    """Content of `dataset.json`.

    Attributes:
        name: Name of the dataset.
        source: The `kind` (a key of `READERS`) and `path` of the source, and the options needed to read the source
            again.
        recipe: Default training recipe.
        labels: Names of the C labels, in the order of the target columns.
        splits: Number of samples per split.
        skipped: Number of skipped records, by reason.
        warnings: Warnings as printed by `prepare`, with one line per kind of warning.
    """

    name: str
    source: dict[str, Any]
    recipe: str
    labels: list[str]
    splits: dict[str, int]
    skipped: dict[str, int] = {}
    warnings: list[str] = []


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset.

    Attributes:
        path: Folder of the dataset.
        info: Content of `dataset.json`.
        loaded: Manifests that are already in memory, by split; they are not read from their files.
    """

    path: Path
    info: Info
    loaded: Mapping[str, Manifest] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(cls, path: Path | str) -> Dataset:
        """Open the folder of a prepared dataset.

        Raises:
            DataError: The folder is missing, is not a prepared dataset, or has an invalid `dataset.json`.
        """
        path = Path(path)
        if not (path / DATASET_FILE).is_file():
            known = [entry.parent.name for entry in path.absolute().parent.glob(f"[!.]*/{DATASET_FILE}")]
            raise DataError(
                f"{path}: no prepared dataset found{nearest(path.name, known) or '; run mlrec prepare first'}"
            )
        return cls(path, read_own_json(path / DATASET_FILE, Info, DataError, "remove the folder and prepare it again"))

    @classmethod
    def latest(cls, root: Path | str = "data") -> Dataset:
        """Open the most recently prepared dataset in the folder `root`.

        Raises:
            DataError: There is no prepared dataset in `root`.
        """
        files = sorted(Path(root).glob(f"[!.]*/{DATASET_FILE}"), key=lambda file: (file.stat().st_mtime_ns, file))
        if not files:
            raise DataError(f"no prepared dataset under {root}; run mlrec prepare, or choose a dataset with --data")
        return cls.load(files[-1].parent)

    def manifest(self, split: str) -> Manifest:
        """Load the manifest of `split`.

        Raises:
            DataError: The dataset has no split with this name; the message lists the available splits.
        """
        if split not in self.info.splits:
            raise DataError(
                f"{self.path}: the dataset has no split '{split}'; choose one of {', '.join(self.info.splits)}"
            )
        return self.loaded.get(split) or Manifest.load(self.manifest_path(split))

    def manifest_path(self, split: str) -> Path:
        """Path of the manifest of `split`."""
        return self.path / f"{split}.jsonl"


def load_or_latest(path: Path | str | None, root: Path | str = "data") -> Dataset:
    """Open the dataset in the folder `path`, or the most recently prepared dataset.

    If `path` is None, the most recently prepared dataset in `root` is opened.

    Raises:
        DataError: The folder is not a prepared dataset, or there is no prepared dataset in `root`.
    """
    if path is None:
        return Dataset.latest(root)
    return Dataset.load(path)


def refuse_foreign(folder: Path) -> None:
    """Check that a folder is missing, empty or a prepared dataset, so that it can be replaced.

    Raises:
        DataError: The folder is not empty and is not a prepared dataset, or contains files that mlrec did not write.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / DATASET_FILE).is_file():
        raise DataError(f"{folder}: the folder is not a prepared dataset; remove it or choose a different --name")
    info = read_own_json(folder / DATASET_FILE, Info, DataError, "remove the folder, or choose a different --name")
    for entry in sorted(folder.iterdir()):
        own = entry.suffix == ".jsonl" or entry.name in (DATASET_FILE, FINGERPRINTS_FILE) or is_temporary(entry)
        own = own or entry == cache_path(entry.with_name(entry.name.removeprefix(".").removesuffix(".cache")))
        if entry.is_dir():
            own = entry.name == IMAGES_FOLDER and info.source.get("unpacked") is True
        if not own:
            raise DataError(
                f"{entry}: this path was not written by mlrec and would be deleted; move it, or choose a different "
                "--name"
            )


def write(folder: Path, info: Info, manifests: Sequence[Manifest]) -> None:
    """Write the manifests and then `dataset.json` into an existing folder."""
    for manifest in manifests:
        manifest.save(folder / f"{manifest.split}.jsonl")
    write_json(folder / DATASET_FILE, msgspec.to_builtins(info))


@dataclass(frozen=True)
class LabelGaps:
    """Labels whose AP is undefined in a split because positives or negatives are missing.

    Attributes:
        split: Name of the split.
        labels: Total number of labels.
        no_positive: Labels without positives.
        no_negative: Labels with positives but without known negatives.
        always: Labels in `no_negative` that are positive in every sample.
    """

    split: str
    labels: int
    no_positive: tuple[str, ...]
    no_negative: tuple[str, ...]
    always: tuple[str, ...]

    def messages(self, consequence: str = NOT_SCORED) -> dict[str, str]:
        """Return a mapping from messages to label names, with one message per kind of gap.

        Each message is one sentence that contains the number of labels and `consequence`.
        """
        no_negative = ", ".join(self.no_negative)
        if self.always:
            no_negative += f"; positive in every sample: {', '.join(self.always)}"
        named = {}
        if self.no_positive:
            count = f"{len(self.no_positive)} of {counted(self.labels, 'label')}"
            named[f"split '{self.split}' has no positives for {count}, {consequence}"] = ", ".join(self.no_positive)
        if self.no_negative:
            count = f"{len(self.no_negative)} of {counted(self.labels, 'label')}"
            named[f"split '{self.split}' has no known negatives for {count}, {consequence}"] = no_negative
        return named

    def lines(self, consequence: str = NOT_SCORED) -> list[str]:
        """Return one line per message; each line contains the message and the label names."""
        return [f"{sentence}: {labels}" for sentence, labels in self.messages(consequence).items()]


def label_gaps(manifest: Manifest) -> LabelGaps:
    """Find labels without positives or without known negatives.

    The result is empty if all labels are unknown.
    """
    targets, samples = manifest.sparse_targets, len(manifest)
    positives, unknowns = targets.counts(POSITIVE), targets.counts(UNKNOWN)
    some_known = bool((unknowns < samples).any())
    positive, negative = positives > 0, positives + unknowns < samples

    def names(chosen: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(manifest.labels[k] for k in np.flatnonzero(chosen)) if some_known else ()

    return LabelGaps(
        split=manifest.split,
        labels=len(manifest.labels),
        no_positive=names(~positive),
        no_negative=names(positive & ~negative),
        always=names(positive & ~negative & (unknowns == 0)),
    )
