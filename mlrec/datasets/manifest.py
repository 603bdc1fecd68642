"""`Manifest`: one split of one dataset, in the format that all other modules read.

A manifest is a JSONL file. Line 1 contains the names of the dataset and the split, the root folder and the labels. Each
further line contains one sample. Targets are 1 (positive), 0 (negative) or -1 (unknown), as annotated. The training
configuration and the metric conventions define how unknown labels are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.datasets import manifest_storage
from mlrec.datasets.manifest_storage import NEGATIVE as NEGATIVE
from mlrec.datasets.manifest_storage import POSITIVE as POSITIVE
from mlrec.datasets.manifest_storage import UNKNOWN as UNKNOWN
from mlrec.datasets.manifest_storage import Header, ManifestLines, SparseTargets, encoded_lines, read_lines
from mlrec.utils.errors import DataError, counted, printable
from mlrec.utils.files import atomic_write, check_regular, sha256
from mlrec.utils.names import label_columns, label_order
from mlrec.utils.texts import Texts, ranks, taken

if TYPE_CHECKING:
    from pandas import DataFrame

    from mlrec.datasets.frames import Sample

FORMAT = "mlrec-manifest/1"


@dataclass(frozen=True, eq=False)
class Manifest:
    """One split of a dataset, with N samples and C labels.

    `len(manifest)`, `manifest[3]` and `for sample in manifest` work as with a list; `manifest[10:20]` is a manifest. A
    sample has the attributes `id`, `path`, `labels` (the positive labels), `unknown`, `target` and `box`, and the
    method `pixels()`; see `frames.Sample`.

    Attributes:
        name, split: Names of the dataset ("voc2007") and of the split ("test").
        root: Absolute path of the folder to which `images` are relative.
        labels: Names of the C labels, in the order of the target columns.
        images: Image paths of the N samples, relative to `root` and as spelled on disk. Multiple samples may have the
            same path, for example the people in one image.
        targets: (N, C) int8 array of 1 (positive), 0 (negative) or -1 (unknown).
        boxes: (N, 4) float64 array of boxes as x, y, width, height in pixels of the stored image, or None if the
            samples are whole images.
        sample_ids: Unique names of the N samples [default: `images`]. A name is usually the image path, or `image#k`
            for box k of the image, counted from 0.

    Raises:
        DataError: The shapes of the arrays or the numbers of images and names do not match.

    Example:
        >>> manifest = Manifest("pets", "val", Path("/data"), ("cat", "dog"), ("a.jpg",), np.array([[1, -1]], np.int8))
        >>> manifest.save(Path("val.jsonl"))
        >>> Manifest.load("val.jsonl").targets.tolist(), manifest.path_of(0).as_posix()
        ([[1, -1]], '/data/a.jpg')
        >>> sample = manifest[0]
        >>> sample.id, sample.labels, sample.unknown
        ('a.jpg', ('cat',), ('dog',))
    """

    name: str
    split: str
    root: Path
    labels: tuple[str, ...]
    images: Sequence[str]
    targets: NDArray[np.int8]
    boxes: NDArray[np.float64] | None = None
    sample_ids: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.sample_ids:
            object.__setattr__(self, "sample_ids", self.images)
        samples, labels = len(self.images), len(self.labels)
        if self.targets.shape != (samples, labels) or len(self.sample_ids) != samples:
            raise DataError(
                f"{self.name}/{self.split}: targets have shape {self.targets.shape} instead of ({samples}, {labels}); "
                "pass one row per sample and one column per label"
            )
        if self.boxes is not None and self.boxes.shape != (samples, 4):
            raise DataError(
                f"{self.name}/{self.split}: boxes have shape {self.boxes.shape} instead of ({samples}, 4); "
                "pass one box per sample"
            )
        given: object = self.targets
        if isinstance(given, SparseTargets):  # passed by `of_sparse`
            object.__setattr__(self, "_sparse", given)
            object.__delattr__(self, "targets")

    def __getattr__(self, name: str) -> Any:
        """Create the dense targets on first access."""
        if name != "targets" or "_sparse" not in self.__dict__:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        object.__setattr__(self, "targets", self.__dict__["_sparse"].dense())
        return self.__dict__["targets"]

    def __repr__(self) -> str:  # kept short: the fields are as long as the dataset, and sparse targets stay sparse
        name = printable(f"{self.name}/{self.split}")
        return f"<Manifest {name}: {counted(len(self), 'sample')}, {counted(len(self.labels), 'label')}>"

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Manifest: ...
    def __getitem__(self, place: int | slice) -> Sample | Manifest:
        if isinstance(place, slice):
            return self.subset(range(len(self))[place])
        from mlrec.datasets.frames import sample_of

        return sample_of(self, place)

    def __iter__(self) -> Iterator[Sample]:
        return (self[k] for k in range(len(self)))

    def to_frame(self, *, labels_only: bool = False) -> DataFrame:
        """Return a data frame with one row per sample; the index contains the sample ids.

        The first columns are `image` and `split`. If samples are boxes, the next columns are `x`, `y`, `width` and
        `height`. The remaining columns are the labels. Label values are 1, 0, or `pandas.NA` if unknown, so that means
        and sums are computed over the known samples.

        Args:
            labels_only: Whether to return only the label columns, as int8 with -1 for unknown labels. `evaluate`
                accepts these values as targets.

        Raises:
            DataError: A label has the same name as another column, and `labels_only` is False.

        Example:
            >>> manifest = Manifest("pets", "val", Path("/data"), ("cat",), ("a.jpg", "b.jpg"), np.array([[1], [-1]]))
            >>> manifest.to_frame()["cat"].mean().item(), manifest.to_frame(labels_only=True)["cat"].tolist()
            (1.0, [1, -1])
        """
        from mlrec.datasets.frames import to_frame

        return to_frame(self, labels_only=labels_only)

    @classmethod
    def from_frame(
        cls,
        frame: DataFrame,
        root: Path | str,
        *,
        name: str = "frame",
        split: str | None = None,
        labels: Sequence[str] | None = None,
    ) -> Manifest:
        """Create a manifest from a data frame. Image files are not opened.

        Args:
            frame: Data frame with one row per sample. Image names are in the column `image` or `filename`, or in the
                index. The columns `id`, `split`, `x`, `y`, `width` and `height` are optional. Each label has one
                column with the values 1 or True (positive), 0 or False (negative), and -1, NaN or None (unknown).
            root: Folder of the images; absolute paths below this folder are converted to relative paths.
            name: Name of the dataset.
            split: Split to select from the column `split` [default: the only split in this column]. If there is no such
                column, this is the name of the new split [default: "all"].
            labels: Names of the label columns. By default, all columns except the columns for the image, id, split and
                box.

        Raises:
            DataError: A column or a cell is invalid, a sample is repeated, or the frame has multiple splits and `split`
                is not set.

        Example:
            >>> import pandas as pd
            >>> frame = pd.DataFrame({"image": ["a.jpg", "b.jpg"], "cat": [1, None], "dog": [0, 1]})
            >>> Manifest.from_frame(frame, "photos").targets.tolist()
            [[1, 0], [-1, 1]]
        """
        from mlrec.datasets.frames import from_frame

        return from_frame(frame, root, name=name, split=split, labels=labels)

    def to_hf(self) -> Any:
        """Return a Hugging Face `datasets.Dataset`.

        The columns are `id`, `image`, `labels` and `unknown`, and `box` if the samples have boxes. The type of
        `labels` and `unknown` is `Sequence(ClassLabel)`. Characters that the library does not allow in split names
        are replaced by `_`.

        Raises:
            DataError: The package `datasets` is not installed.
        """
        from mlrec.datasets.frames import to_hf

        return to_hf(self)

    @classmethod
    def from_hf(
        cls,
        dataset: Any,
        root: Path | str,
        *,
        name: str = "hf",
        split: str | None = None,
        labels: Sequence[str] | None = None,
    ) -> Manifest:
        """Create a manifest from one split of a `datasets.Dataset`; see `frames.from_hf`.

        Args:
            dataset: Dataset with an `image` column and either a `labels` column or one column per label with the
                values 1, 0 and -1. The columns `id`, `box` and, in addition to `labels`, `unknown` are optional.
            root: Folder of the image files. If the dataset contains image data, the images are written to this
                folder.
            name: Name of the dataset in the manifest.
            split: Name of the split. By default, the split name of the dataset, or "all" if it has none.
            labels: Names of the label columns. By default, the labels are the class names of the column `labels`.

        Raises:
            DataError: The dataset has multiple splits or is invalid, an image file in `root` has different content, or
                the package `datasets` is not installed.
        """
        from mlrec.datasets.frames import from_hf

        return from_hf(dataset, root, name=name, split=split, labels=labels)

    def positives(self) -> dict[str, int]:
        """Count the positives of each label."""
        return dict(zip(self.labels, self.sparse_targets.counts(POSITIVE).tolist(), strict=True))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle only the path of a large manifest, so that another process can map the same file."""
        if "_file" in self.__dict__:
            return _load_copy, self.__dict__["_file"]
        return super().__reduce_ex__(protocol)

    @classmethod
    def of_sparse(
        cls,
        name: str,
        split: str,
        root: Path,
        labels: Sequence[str],
        images: Sequence[str],
        targets: SparseTargets,
        boxes: NDArray[np.float64] | None = None,
        sample_ids: Sequence[str] = (),
    ) -> Manifest:
        """Create a manifest from sparse targets."""
        return cls(name, split, root, tuple(labels), images, targets, boxes, sample_ids)  # type: ignore[arg-type]

    @property
    def sparse_targets(self) -> SparseTargets:
        """Targets in sparse form, which stores only the positive and unknown labels of each sample.

        With many labels, sparse targets are much smaller than the dense array.
        """
        sparse: SparseTargets | None = self.__dict__.get("_sparse")
        return SparseTargets.of(self.targets) if sparse is None else sparse

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the labels and samples; `name`, `split` and `root` do not affect the digest."""
        content = hashlib.sha256(msgspec.json.encode(self.labels))
        for line in self._lines():
            content.update(b"\n" + line)
        return content.hexdigest()

    def path_of(self, sample: int) -> Path:
        """Path of the image file of a sample."""
        return self.root / self.images[sample]

    def box_of(self, sample: int) -> tuple[float, float, float, float] | None:
        """Box of a sample: x, y, width, height in pixels of the stored image. None for a whole image."""
        if self.boxes is None:
            return None
        x, y, width, height = self.boxes[sample].tolist()
        return x, y, width, height

    def target_rows(self, samples: NDArray[np.integer[Any]]) -> NDArray[np.int8]:
        """Return the targets of `samples` as a dense (len(samples), C) array; no other rows are created."""
        sparse = self.__dict__.get("_sparse")
        rows: NDArray[np.int8] = self.targets[samples] if sparse is None else sparse.rows(samples)
        return rows

    @cached_property
    def image_ranks(self) -> NDArray[np.intp]:
        """Rank of each sample's image when all images are sorted by name, as an (N,) array.

        Samples in the same image have the same rank.
        """
        return ranks(self.images)

    def changed(self, **changes: Any) -> Manifest:
        """Return a copy of the manifest with some attributes replaced, like `dataclasses.replace`.

        Targets that are not replaced keep their form, dense or sparse.
        """
        own = self.__dict__
        kept = {key: own[key] for key in ("name", "split", "root", "labels", "images", "boxes", "sample_ids")}
        targets = own.get("_sparse", own.get("targets"))
        return Manifest(**{**kept, "targets": targets, **changes})

    def subset(self, samples: Sequence[int] | NDArray[np.integer[Any]], split: str | None = None) -> Manifest:
        """Return a manifest of the samples at these positions, in this order, optionally as a new split."""
        chosen = np.asarray(samples, dtype=np.intp)
        images = taken(self.images, chosen)
        sparse = self.__dict__.get("_sparse")
        return self.changed(
            split=split or self.split,
            images=images,
            sample_ids=images if self.sample_ids is self.images else taken(self.sample_ids, chosen),
            targets=self.targets[chosen] if sparse is None else sparse.take(chosen),
            boxes=None if self.boxes is None else self.boxes[chosen],
        )

    def reordered(self, labels: Sequence[str]) -> Manifest:
        """Return the manifest with its target columns in the order of `labels`.

        Raises:
            DataError: The two sets of labels differ; the message lists missing and unexpected names.
        """
        return self.of_columns(labels, label_order(self.labels, labels))

    def with_labels(self, chosen: Sequence[str]) -> Manifest:
        """Return a manifest of the same samples with only these labels, in this order.

        Raises:
            DataError: A label is not in the manifest; the message suggests the nearest label.
        """
        return self.of_columns(chosen, label_columns(self.labels, chosen, f"{self.name}/{self.split}"))

    def of_columns(self, labels: Sequence[str], columns: Sequence[int] | NDArray[np.intp]) -> Manifest:
        """Return the same samples with only these target columns, in this order; `labels` are their names."""
        if np.array_equal(columns, np.arange(len(self.labels))):
            return self
        sparse = self.__dict__.get("_sparse")
        targets = self.targets[:, columns] if sparse is None else sparse.choose(columns)
        return self.changed(labels=tuple(labels), targets=targets)

    def save(self, path: Path) -> None:
        """Write the manifest to `path` atomically.

        For a large manifest, a binary copy is also written next to the file, if possible. Otherwise, an old binary copy
        is removed.

        Raises:
            DataError: The path of `root` cannot be encoded as UTF-8.
        """
        header = Header(FORMAT, self.name, self.split, str(self.root), list(self.labels))
        try:
            first = msgspec.json.encode(header)
        except UnicodeEncodeError as error:
            raise DataError(
                f"{self.root}: the path is not valid UTF-8, so it cannot be stored; rename the folder"
            ) from error
        # One pass over the samples writes the file and computes its key and the manifest digest.
        key, digest, size = hashlib.sha256(first + b"\n"), hashlib.sha256(msgspec.json.encode(self.labels)), 0
        with atomic_write(path) as stream:
            stream.write(first + b"\n")
            for line in self._lines():
                stream.write(line + b"\n")
                key.update(line + b"\n")
                digest.update(b"\n" + line)
            size = stream.tell()
        if size >= manifest_storage.CACHED_FROM:
            self._save_copy(Path(path), key.hexdigest(), digest.hexdigest())
        else:
            manifest_storage.cache_path(Path(path)).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str) -> Manifest:
        """Read a manifest file. A large manifest is read from its binary copy if the copy is up to date.

        If a large manifest has no such copy, a new copy is written, unless the folder is read-only.

        Raises:
            DataError: The file is not a manifest, a line is invalid, a label is not in the header, an id is repeated,
                or only some samples have boxes. The message states the file and, for an invalid line, its number.
        """
        path = Path(path)
        check_regular(path)
        large = path.is_file() and path.stat().st_size >= manifest_storage.CACHED_FROM
        if large and manifest_storage.cache_path(path).exists():
            copy = _read_copy(path, sha256(path))
            if copy is not None:
                return copy
        lines = read_lines(path, FORMAT)
        manifest = cls._of_lines(lines)
        if large:
            manifest._save_copy(path, lines.key, manifest.digest)
        return manifest

    @classmethod
    def _of_lines(cls, lines: ManifestLines) -> Manifest:
        header = lines.header
        return cls.of_sparse(
            header.name,
            header.split,
            Path(header.root),
            header.labels,
            lines.images,
            lines.targets,
            lines.boxes,
            lines.sample_ids,
        )

    def _save_copy(self, path: Path, key: str, digest: str) -> None:
        fields = {
            "name": self.name,
            "split": self.split,
            "root": str(self.root),
            "labels": self.labels,
            "digest": digest,
        }
        images, targets = Texts.of(self.images), self.sparse_targets
        arrays: dict[str, NDArray[Any]] = {
            "images": images.data,
            "image_offsets": images.offsets,
            "codes": targets.codes,
            "code_offsets": targets.offsets,
        }
        if self.sample_ids is not self.images:
            ids = Texts.of(self.sample_ids)
            arrays |= {"ids": ids.data, "id_offsets": ids.offsets}
        if self.boxes is not None:
            arrays["boxes"] = self.boxes
        manifest_storage.write_cache(path, key, fields, arrays)

    def _lines(self) -> Iterable[bytes]:
        return encoded_lines(self.labels, self.images, self.sample_ids, self.sparse_targets, self.boxes)


def _read_copy(path: Path, key: str, *, checked: bool = True) -> Manifest | None:
    """Read the binary copy of the manifest file with this SHA-256; return None if there is no such copy."""
    copy = manifest_storage.read_cache(path, key, checked=checked)
    if copy is None:
        return None
    fields, arrays = copy
    labels = tuple(fields["labels"])
    sample_ids: Sequence[str] = ()
    if "ids" in arrays:
        sample_ids = Texts(arrays["ids"], arrays["id_offsets"])
    manifest = Manifest.of_sparse(
        fields["name"],
        fields["split"],
        Path(fields["root"]),
        labels,
        Texts(arrays["images"], arrays["image_offsets"]),
        SparseTargets(arrays["codes"], arrays["code_offsets"], len(labels)),
        arrays.get("boxes"),
        sample_ids,
    )
    manifest.__dict__.update(digest=fields["digest"], _file=(path.absolute(), key))
    return manifest


def _load_copy(path: Path, key: str) -> Manifest:
    """Open a manifest that another process has loaded and pickled."""
    manifest = _read_copy(path, key, checked=False)
    if manifest is not None:
        return manifest
    if path.is_file() and sha256(path) == key:  # only the copy was deleted
        return Manifest.load(path)
    raise DataError(
        f"{path}: the manifest changed while a process that uses the manifest was starting; run the command again"
    )


def image_of(sample_id: str) -> str:
    """Return the image name in a sample id: `a.jpg` for the sample `a.jpg` and for the box `a.jpg#0`.

    Example:
        >>> image_of("a.jpg#0"), image_of("a#1.jpg")
        ('a.jpg', 'a#1.jpg')
    """
    image, separator, place = sample_id.rpartition("#")
    return image if separator and place.isdigit() else sample_id
