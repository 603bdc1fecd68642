"""Cache of image fingerprints in the dataset folder, so that unchanged files are read only once."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlrec.datasets.analysis.near_duplicates import SIDE, Fingerprint
from mlrec.utils.files import atomic_write


@dataclass(frozen=True)
class FingerprintCache:
    """Cache of image fingerprints; a fingerprint is reused while its image file does not change.

    Attributes:
        prints: Mapping from image names to fingerprints.
        stamps: Mapping from image names to the size and modification time of the file, for files that exist.
        missing: Names of files that must be read because they are new or have changed.
    """

    prints: dict[str, Fingerprint]
    stamps: dict[str, str]
    missing: list[str]

    @classmethod
    def load(cls, path: Path, root: Path, names: Sequence[str]) -> FingerprintCache:
        """Load the cache file `path` for the images `names`, whose paths are relative to `root`.

        An unreadable cache is ignored.
        """
        stamps = {name: stamp for name in names if (stamp := _stamp(root / name))}
        prints = {name: fingerprint for name, (stamp, fingerprint) in _read(path).items() if stamps.get(name) == stamp}
        return cls(prints, stamps, [name for name in stamps if name not in prints])

    def save(self, path: Path) -> None:
        """Write all fingerprints to `path`."""
        prints = list(self.prints.values())
        with atomic_write(path) as stream:
            np.savez(
                stream,
                names=np.array(list(self.prints), dtype=np.str_),
                stamps=np.array([self.stamps[name] for name in self.prints], dtype=np.str_),
                digests=np.array([one.digest for one in prints], dtype=np.str_),
                thumbnails=np.array([one.thumbnail for one in prints], dtype=np.uint8).reshape(-1, SIDE, SIDE),
            )


def _read(path: Path) -> dict[str, tuple[str, Fingerprint]]:
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names, stamps, digests = (arrays[key].tolist() for key in ("names", "stamps", "digests"))
            thumbnails = arrays["thumbnails"]
            if thumbnails.dtype != np.uint8 or thumbnails.shape[1:] != (SIDE, SIDE):
                return {}
            prints = map(Fingerprint, digests, thumbnails)
            return dict(zip(names, zip(stamps, prints, strict=True), strict=True))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, EOFError, zipfile.BadZipFile):
        return {}


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"
