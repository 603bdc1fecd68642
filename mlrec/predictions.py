"""`Predictions`: logits and targets of a split, with labels and sample ids."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlrec.utils.arrays import array_of
from mlrec.utils.errors import PredictionsError, counted
from mlrec.utils.files import atomic_write, check_regular
from mlrec.utils.large_arrays import LARGE, is_text, large_texts, mapped, save_large
from mlrec.utils.names import duplicates_in
from mlrec.utils.texts import Texts, repeated

if TYPE_CHECKING:
    from pandas import DataFrame

CLIP = 1e-7
ARRAYS = ("logits", "sample_ids", "labels", "targets", "digest")
# Limits that protect against decompression bombs: arrays may be 100 times as large as the file, or 256 MB.
MOST_UNPACKED, SMALL = 100, 256_000_000
Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits for N samples and C labels, with targets if they are known.

    Attributes:
        labels: Unique names of the C labels, in column order.
        sample_ids: Unique ids of the N samples, in row order.
        logits: (N, C) array of floats; the probability of a label is sigmoid(logit). Lists, and tensors on any device,
            are converted to arrays.
        targets: (N, C) int8 array of 1 (positive), 0 (negative) or -1 (unknown); None if the targets are not known.
            Lists and tensors are converted to arrays.
        digest: Digest of the manifest for which the logits were computed, or an empty string.

    Raises:
        PredictionsError: Shapes do not match, a label or sample id is duplicated, or a target is not 1, 0 or -1.

    Example:
        >>> predictions = Predictions(("cat", "dog"), ("a.jpg",), np.array([[2.0, -1.0]]), np.array([[1, 0]]))
        >>> predictions.save("predictions.npz")
        >>> Predictions.load("predictions.npz").logits.tolist()
        [[2.0, -1.0]]
    """

    labels: tuple[str, ...]
    sample_ids: Sequence[str]
    logits: Floats
    targets: NDArray[np.int8] | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        for name in ("logits", "targets"):
            values = getattr(self, name)
            if values is not None and not isinstance(values, np.ndarray):
                object.__setattr__(self, name, array_of(values, name))
        samples, labels = len(self.sample_ids), len(self.labels)
        if self.logits.shape != (samples, labels):
            raise PredictionsError(
                f"logits have shape {self.logits.shape}, but {counted(samples, 'sample id')} and "
                f"{counted(labels, 'label')} were passed; pass one row per sample and one column per label"
            )
        targets = self.targets
        if targets is not None and (targets.shape != self.logits.shape or not _are_targets(targets)):
            raise PredictionsError(
                "targets must have the shape of the logits and contain only 1, 0 and -1; correct the targets"
            )
        for what, names in (("label", self.labels), ("sample id", self.sample_ids)):
            if twice := repeated(names):
                raise PredictionsError(f"{what} '{twice[0]}' is repeated; each {what} must be unique")

    def __repr__(self) -> str:  # short, like the repr of a manifest
        return f"<Predictions: {counted(len(self.sample_ids), 'sample')}, {counted(len(self.labels), 'label')}>"

    def to_frame(self, *, probabilities: bool = False) -> DataFrame:
        """Return the logits as a data frame with one row per sample and one column per label.

        The index `id` contains the sample ids.

        Args:
            probabilities: Whether to return sigmoid(logit) instead of logits.

        Example:
            >>> predictions = Predictions(("cat", "dog"), ("a.jpg",), np.array([[0.0, -1.0]]))
            >>> predictions.to_frame(probabilities=True).loc["a.jpg", "cat"].item()
            0.5
        """
        import pandas as pd

        values = probabilities_of(self.logits) if probabilities else self.logits
        return pd.DataFrame(values, index=pd.Index(self.sample_ids, name="id"), columns=list(self.labels))

    def save(self, path: Path | str) -> None:
        """Write the predictions to an `.npz` file; logits are stored as float32, targets as int8.

        Identical predictions produce identical bytes. Logit arrays of 64 MiB or more are not compressed, so that they
        can be memory-mapped.
        """
        arrays: dict[str, Any] = {
            # Store rows contiguously, even if the array in memory is column-major.
            "logits": self.logits.astype(np.float32, order="C", copy=False),
            "sample_ids": self.sample_ids,
            "labels": np.array(self.labels, dtype=np.str_),
            "digest": np.array(self.digest, dtype=np.str_),
        }
        if self.targets is not None:
            arrays["targets"] = self.targets.astype(np.int8, order="C", copy=False)
        with atomic_write(Path(path)) as stream:
            if arrays["logits"].nbytes >= LARGE:
                save_large(stream, arrays)
            else:
                np.savez_compressed(stream, **{**arrays, "sample_ids": np.array(tuple(self.sample_ids), dtype=np.str_)})

    @classmethod
    def load(cls, path: Path | str) -> Predictions:
        """Read an `.npz` file with logits, written by mlrec or any other program.

        Only numeric and string arrays are read; pickled objects are never loaded. Large uncompressed arrays are
        memory-mapped.

        Raises:
            PredictionsError: The file cannot be read, an array is missing, shapes do not match, the logits are not
                floats, a label or sample id is repeated, or a target is not 1, 0 or -1.
        """
        path = Path(path)
        arrays = _read_arrays(path)
        missing = [name for name in ("logits", "sample_ids", "labels") if name not in arrays]
        if missing:
            raise PredictionsError(
                f"{path}: the file has no array '{missing[0]}'; save the arrays logits, sample_ids and labels"
            )
        logits, targets = arrays["logits"], arrays.get("targets")
        if logits.ndim != 2 or not np.issubdtype(logits.dtype, np.floating):
            raise PredictionsError(
                f"{path}: logits have shape {logits.shape} and dtype {logits.dtype}; save a float array of shape (N, C)"
            )
        labels = tuple(_names(arrays["labels"], "label", path))
        ids = _names(arrays["sample_ids"], "sample id", path)
        try:
            read = cls(labels, ids, logits, targets, str(arrays["digest"]) if "digest" in arrays else "")
        except PredictionsError as error:
            raise PredictionsError(f"{path}: {error}") from error
        if targets is None or targets.dtype == np.int8:
            return read
        return replace(read, targets=targets.astype(np.int8))


def logits_of(probabilities: Floats) -> NDArray[np.float64]:
    """Return the logits for probabilities, which are clipped to [1e-7, 1 - 1e-7] to avoid infinite logits.

    Example:
        >>> logits_of(np.array([0.5, 0.0])).round(2).tolist()
        [0.0, -16.12]
    """
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def probabilities_of(logits: Floats | float) -> NDArray[np.float64]:
    """Compute the sigmoid of the logits in float64, without overflow.

    Example:
        >>> probabilities_of(np.array([0.0, 1e9, -1e9])).tolist()
        [0.5, 1.0, 0.0]
    """
    small = np.exp(-np.abs(np.asarray(logits, dtype=np.float64)))
    return np.asarray(np.where(np.asarray(logits) >= 0, 1.0, small) / (1 + small))


def _are_targets(targets: NDArray[Any]) -> bool:
    if targets.dtype.kind == "i" and targets.size:  # avoids an intermediate array
        return bool(targets.min() >= -1 and targets.max() <= 1)
    return bool(np.isin(targets, (-1, 0, 1)).all())


def _names(array: NDArray[np.generic] | Texts, what: str, path: Path) -> Sequence[str]:
    if isinstance(array, Texts):
        return array
    if array.dtype.kind not in "Uiu":
        raise PredictionsError(f"{path}: {what}s have dtype {array.dtype}; save them as text")
    return tuple(str(name) for name in array.ravel().tolist())


def _read_arrays(path: Path) -> dict[str, Any]:
    """Read the arrays in an `.npz` file.

    An array whose header states more bytes than the file contains is rejected before memory is allocated.
    """
    check_regular(path, PredictionsError)
    if not path.exists():
        raise PredictionsError(f"{path}: no such file; check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            large = _large_arrays(archive, path)
        with np.load(path, allow_pickle=False) as archive_:
            arrays = {name: archive_[name] for name in ARRAYS if name in archive_ and name not in large}
        for name, array in arrays.items():
            if array.dtype.kind == "U" and not is_text(array):
                raise PredictionsError(f"{path}: array '{name}' contains invalid characters; save the file again")
        return arrays | large
    except PredictionsError:
        raise
    except Exception as error:  # zipfile and numpy raise many kinds of exceptions on damaged files
        raise PredictionsError(
            f"{path}: not a readable .npz file with plain arrays ({error}); save the file again"
        ) from error


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    entries = [(entry.filename.removesuffix(".npy"), entry) for entry in archive.infolist()]
    entries = [(name, entry) for name, entry in entries if name in ARRAYS]
    if twice := duplicates_in(name for name, _ in entries):
        raise PredictionsError(f"{path}: array '{twice[0]}' is repeated; array names must be unique")
    for name, entry in entries:
        if _header(archive, entry)[1].hasobject:
            raise PredictionsError(
                f"{path}: array '{name}' contains Python objects; convert it before saving, for example names with "
                "np.array(names, dtype=str)"
            )
    unpacked = sum(entry.file_size for _, entry in entries)
    if unpacked > max(SMALL, MOST_UNPACKED * path.stat().st_size):
        raise PredictionsError(
            f"{path}: the uncompressed size of {unpacked:,} bytes is too large for a scores file; check the path"
        )
    for name, entry in entries:
        if _claimed_bytes(archive, entry) > entry.file_size:
            raise PredictionsError(f"{path}: array '{name}' is shorter than its header states; save the file again")


def _large_arrays(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    """Read the large arrays: memory-map the numbers, and store sample ids in compact form."""
    found: dict[str, Any] = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(".npy")
        if name in ("logits", "targets"):
            found[name] = mapped(path, entry)
        elif name == "sample_ids":
            found[name] = large_texts(archive, entry)
    return {name: array for name, array in found.items() if array is not None}


def _claimed_bytes(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    shape, dtype = _header(archive, entry)
    return math.prod(shape) * dtype.itemsize


def _header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(entry) as stream:
        first = np.lib.format.read_magic(stream) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    return shape, dtype
