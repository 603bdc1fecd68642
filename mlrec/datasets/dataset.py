"""`Dataset`: the folder `data/<name>` that `prepare` writes: a manifest for each split, and `dataset.json` on all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mlrec.datasets.manifest import Manifest
from mlrec.utils.errors import DataError, nearest, printable
from mlrec.utils.files import is_temporary, read_own_json, write_json

DATASET_FILE = "dataset.json"
FINGERPRINTS_FILE = "fingerprints.npz"
IMAGES_FOLDER = "images"  # images that the source holds inside other files


class Info(msgspec.Struct, frozen=True):
    """What `dataset.json` holds.

    Attributes:
        source: how it was read: `kind` (a key of `SOURCES`), `path`, and the options that another reading needs.
        recipe: the training recipe used when none is asked for.
        splits: samples a split.
        skipped: how many records were left out, by reason.
        warnings: one line a kind, as shown when it was prepared.
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
        path: its folder.
        info: its `dataset.json`.
        loaded: manifests that need no reading, because they have just been written.
    """

    path: Path
    info: Info
    loaded: Mapping[str, Manifest] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(cls, path: Path | str) -> Dataset:
        """Open the folder of a prepared dataset.

        Raises:
            DataError: the folder is missing or was not written by `mlrec prepare`.
        """
        path = Path(path)
        if not (path / DATASET_FILE).is_file():
            known = [entry.parent.name for entry in path.absolute().parent.glob(f"[!.]*/{DATASET_FILE}")]
            raise DataError(
                f"{printable(path)}: no prepared dataset here{nearest(path.name, known)}; run mlrec prepare first"
            )
        return cls(path, read_own_json(path / DATASET_FILE, Info, DataError, "remove the folder and prepare it again"))

    @classmethod
    def latest(cls, root: Path | str = "data") -> Dataset:
        """The dataset prepared last under `root`.

        Raises:
            DataError: there is none.
        """
        found = sorted(Path(root).glob(f"[!.]*/{DATASET_FILE}"), key=lambda file: (file.stat().st_mtime_ns, file))
        if not found:
            raise DataError(f"no prepared dataset under {printable(root)}; run mlrec prepare, or name one with --data")
        return cls.load(found[-1].parent)

    def manifest(self, split: str) -> Manifest:
        """The manifest of `split`.

        Raises:
            DataError: there is no such split; names those there are.
        """
        if split not in self.info.splits:
            raise DataError(
                f"{printable(self.path)}: no split '{printable(split)}'; there are {', '.join(self.info.splits)}"
            )
        return self.loaded.get(split) or Manifest.load(self.manifest_path(split))

    def manifest_path(self, split: str) -> Path:
        """Where the manifest of `split` lies."""
        return self.path / f"{split}.jsonl"


def refuse_foreign(folder: Path) -> None:
    """Hold back from replacing a folder that is more than an earlier prepare, or none.

    Raises:
        DataError: there is something that mlrec did not write.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / DATASET_FILE).is_file():
        raise DataError(f"{printable(folder)}: exists and is no prepared dataset; remove it or choose another --name")
    info = read_own_json(folder / DATASET_FILE, Info, DataError, "remove the folder, or choose another --name")
    for entry in sorted(folder.iterdir()):
        own = entry.suffix == ".jsonl" or entry.name in (DATASET_FILE, FINGERPRINTS_FILE) or is_temporary(entry)
        if entry.is_dir():
            own = entry.name == IMAGES_FOLDER and info.source.get("unpacked") is True
        if not own:
            raise DataError(
                f"{printable(entry)}: was not written by mlrec and would be lost; move it, or choose another --name"
            )


def write(folder: Path, info: Info, manifests: Sequence[Manifest]) -> None:
    """Write manifests and `dataset.json`, that one last, into an existing folder."""
    for manifest in manifests:
        manifest.save(folder / f"{manifest.split}.jsonl")
    write_json(folder / DATASET_FILE, msgspec.to_builtins(info))
