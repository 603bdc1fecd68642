"""`Manifest`: one split of one dataset, in the format that all other modules read.

A JSONL file: line 1 holds the dataset, the split, the root folder and the labels; the other lines hold one sample each.
Targets are 1 (positive), 0 (negative) or -1 (unknown), as annotated. How training uses unknown labels is set in the
configuration, how scoring uses them in the conventions.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.names import holds_control, image_name
from mlrec.utils.errors import DataError, MlrecError, ValidationReport, counted, nearest, printable
from mlrec.utils.files import atomic_write, read_bytes

if TYPE_CHECKING:
    from pandas import DataFrame

    from mlrec.datasets.frames import Sample

FORMAT = "mlrec-manifest/1"
POSITIVE, NEGATIVE, UNKNOWN = 1, 0, -1


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    name: str
    split: str
    root: str
    labels: list[str]


class _Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    image: str
    positive: list[str]
    unknown: list[str] = []
    box: tuple[float, float, float, float] | None = None
    id: str | None = None


@dataclass(frozen=True, eq=False)
class Manifest:
    """One split: N samples, C labels.

    `len(manifest)`, `manifest[3]`, `manifest[10:20]` and `for sample in manifest` work as for a list. A sample has
    `id`, `path`, `labels` (the positive ones), `unknown`, `target` (C,), `box` and `pixels()`.

    Attributes:
        name, split: Names of the dataset ("voc2007") and of the split ("test").
        root: Absolute folder that `images` are relative to.
        labels: C label names, in the order of the target columns.
        images: N paths below `root`, spelled as on disk; several samples may share one (the persons of an image).
        targets: (N, C) int8; 1 positive, 0 negative, -1 unknown.
        boxes: (N, 4) float64 x, y, width, height in pixels of the stored image, or None for whole images.
        sample_ids: N unique names: the image, or `image#k` for the k-th person annotated in it, counted from 0.

    Raises:
        DataError: Shapes do not fit.

    Example:
        >>> manifest = Manifest("pets", "val", Path("/data"), ("cat", "dog"), ("a.jpg",), np.array([[1, -1]], np.int8))
        >>> manifest.save(Path("val.jsonl"))
        >>> Manifest.load("val.jsonl").targets.tolist(), manifest.path_of(0).as_posix()
        ([[1, -1]], '/data/a.jpg')
        >>> [(sample.id, sample.labels, sample.unknown) for sample in manifest]
        [('a.jpg', ('cat',), ('dog',))]
    """

    name: str
    split: str
    root: Path
    labels: tuple[str, ...]
    images: tuple[str, ...]
    targets: NDArray[np.int8]
    boxes: NDArray[np.float64] | None = None
    sample_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.sample_ids:
            object.__setattr__(self, "sample_ids", self.images)
        samples, labels = len(self.images), len(self.labels)
        if self.targets.shape != (samples, labels) or len(self.sample_ids) != samples:
            raise DataError(
                f"{self.name}/{self.split}: targets have shape {self.targets.shape}, expected ({samples}, {labels})"
            )
        if self.boxes is not None and self.boxes.shape != (samples, 4):
            raise DataError(f"{self.name}/{self.split}: boxes have shape {self.boxes.shape}, expected ({samples}, 4)")

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
        """Return one row per sample, with the sample ids as index.

        Columns: `image`, `split`, `x`, `y`, `width`, `height` (of boxes), and one per label: 1, 0, or `pandas.NA` if
        unknown, so that means and sums are those of the known samples.

        Args:
            labels_only: Only the columns of labels, int8 with -1 for unknown: the targets that `evaluate` takes.

        Raises:
            DataError: A label has the name of another column.

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
        """Make a manifest of the rows of a data frame. Image files are not opened.

        Args:
            frame: One row per sample. The image is in column `image` or `filename`, otherwise in the index; `id` (index
                or column), `split` and `x`, `y`, `width`, `height` may be given. A cell of a label is 1 or True, 0 or
                False, and -1 or empty (NaN, None, `pandas.NA`) if unknown.
            root: Folder of the images; absolute paths below it are shortened.
            name: Name of the dataset.
            split: Split to take from column `split`; without that column, its name.
            labels: Columns of labels. None: all that are not named above.

        Raises:
            DataError: A column or a cell is not as described, a sample is repeated, or several splits and none chosen.

        Example:
            >>> import pandas as pd
            >>> frame = pd.DataFrame({"image": ["a.jpg", "b.jpg"], "cat": [1, None], "dog": [0, 1]})
            >>> Manifest.from_frame(frame, "photos").targets.tolist()
            [[1, 0], [-1, 1]]
        """
        from mlrec.datasets.frames import from_frame

        return from_frame(frame, root, name=name, split=split, labels=labels)

    def to_hf(self) -> Any:
        """Return a `datasets.Dataset` of Hugging Face.

        Columns: `id`, `image`, `labels` and `unknown` (`Sequence(ClassLabel)`), and `box` if there are any. Characters
        of the split's name that its library does not allow become `_`.

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
        """Make a manifest of one split of a Hugging Face dataset.

        Args:
            dataset: `datasets.Dataset` with a column `image` and either `labels` (`Sequence(ClassLabel)`, and `unknown`
                likewise, if any) or one column of 1, 0, -1 per label. Columns `id` and `box` are used.
            root: Folder of the image files. Images that are stored in the dataset are written there.
            name: Name of the manifest's dataset.
            split: Name of the split. None: that of the dataset.
            labels: Columns of 1, 0 and -1, one per label; None: the names of the column `labels`.

        Raises:
            DataError: The dataset has several splits, or is not as described; or the package is not installed.
        """
        from mlrec.datasets.frames import from_hf

        return from_hf(dataset, root, name=name, split=split, labels=labels)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of labels and samples, but not of `root`, so that moved data keep it."""
        content = hashlib.sha256(msgspec.json.encode(self.labels))
        for line in self._lines():
            content.update(b"\n" + line)
        return content.hexdigest()

    def path_of(self, sample: int) -> Path:
        """Path of the image file of a sample."""
        return self.root / self.images[sample]

    def subset(self, samples: Sequence[int] | NDArray[np.integer[Any]], split: str | None = None) -> Manifest:
        """Return the samples at these positions, in this order, optionally as a split of another name."""
        chosen = np.asarray(samples, dtype=np.intp)
        return replace(
            self,
            split=split or self.split,
            images=tuple(self.images[k] for k in chosen),
            sample_ids=tuple(self.sample_ids[k] for k in chosen),
            targets=self.targets[chosen],
            boxes=None if self.boxes is None else self.boxes[chosen],
        )

    def reordered(self, labels: Sequence[str]) -> Manifest:
        """Return the manifest with its columns in the order of `labels`.

        Raises:
            DataError: The two sets of labels differ; the message lists the missing and the unexpected names.
        """
        return replace(self, labels=tuple(labels), targets=self.targets[:, label_order(self.labels, labels)])

    def with_labels(self, chosen: Sequence[str]) -> Manifest:
        """Return the same samples with these labels only, in this order.

        Raises:
            DataError: There is no such label; the message gives the nearest one.
        """
        columns = label_columns(self.labels, chosen, f"{self.name}/{self.split}")
        return replace(self, labels=tuple(chosen), targets=self.targets[:, columns])

    def save(self, path: Path) -> None:
        """Write the manifest to `path` atomically.

        Raises:
            DataError: The root is not valid text.
        """
        header = _Header(FORMAT, self.name, self.split, str(self.root), list(self.labels))
        try:
            first = msgspec.json.encode(header)
        except UnicodeEncodeError as error:
            raise DataError(f"{printable(self.root)}: a path that is not UTF-8 cannot be stored; rename it") from error
        with atomic_write(path) as stream:
            stream.write(first + b"\n")
            stream.writelines(line + b"\n" for line in self._lines())

    @classmethod
    def load(cls, path: Path | str) -> Manifest:
        """Read a manifest file.

        Raises:
            DataError: The file is not a manifest, a line is invalid, a label is unknown, or an id is repeated; the
                message names file and line.
        """
        path = Path(path)
        lines = read_bytes(path).removeprefix(b"\xef\xbb\xbf").splitlines()
        if not lines:
            raise DataError(f"{printable(path)}: empty; prepare the dataset again")
        header = _decode(_Header, lines[0], path, 1)
        if header.format != FORMAT:
            raise DataError(
                f"{printable(path)}: format is {printable(header.format)}, expected {FORMAT}; prepare the dataset again"
            )
        if duplicates := duplicates_in(header.labels):
            raise DataError(f"{printable(path)}: line 1: label '{printable(duplicates[0])}' is repeated; keep one")
        decoder = msgspec.json.Decoder(_Line)
        samples = [_decode(decoder, line, path, k) for k, line in enumerate(lines[1:], 2) if line.strip()]
        findings = ValidationReport()
        for k, sample in enumerate(samples, 2):
            image_name(sample.image, f"{path}: line {k}", findings)
        targets = _targets(samples, header.labels, path, findings)
        for name in duplicates_in([sample.id or sample.image for sample in samples]):
            findings.error(f"{path}", f"sample id '{printable(name)}' is repeated; keep one")
        boxed = [sample for sample in samples if sample.box is not None]
        if boxed and len(boxed) != len(samples):
            findings.error(f"{path}", "some samples have a box and others do not")
        findings.raise_errors(f"{printable(path)}: not a valid manifest", "prepare the dataset again")
        return cls(
            name=header.name,
            split=header.split,
            root=Path(header.root),
            labels=tuple(header.labels),
            images=tuple(sample.image for sample in samples),
            targets=targets,
            boxes=np.array([sample.box for sample in samples], dtype=np.float64) if boxed else None,
            sample_ids=tuple(sample.id or sample.image for sample in samples),
        )

    def _lines(self) -> Iterable[bytes]:
        encode = msgspec.json.Encoder().encode
        positives, unknowns = self._names(POSITIVE), self._names(UNKNOWN)
        for k, image in enumerate(self.images):
            line: dict[str, Any] = {"image": image, "positive": positives[k]}
            if unknowns[k]:
                line["unknown"] = unknowns[k]
            if self.boxes is not None:
                line["box"] = [int(v) if v.is_integer() else v for v in self.boxes[k].tolist()]
            if self.sample_ids[k] != image:
                line["id"] = self.sample_ids[k]
            yield encode(line)

    def _names(self, value: int) -> list[list[str]]:
        """Labels of each sample whose target is `value`, in label order."""
        rows, columns = np.nonzero(self.targets == value)
        ends = np.searchsorted(rows, np.arange(len(self) + 1)).tolist()
        names = [self.labels[column] for column in columns.tolist()]
        return [names[start:end] for start, end in pairwise(ends)]


def label_columns(
    labels: Sequence[str], chosen: Sequence[str], where: object, error: type[MlrecError] = DataError
) -> list[int]:
    """Return the columns of the labels `chosen` among all `labels`, in the order of `chosen`.

    Args:
        labels: C label names, in the order of the columns.
        chosen: Names to look up.
        where: File, folder or split that has the labels, for the message.
        error: Kind of the error.

    Raises:
        MlrecError: (of the kind `error`) A name is not among the labels; the message gives the nearest one.

    Example:
        >>> label_columns(["cat", "dog", "person"], ["person", "cat"], "pets/val")
        [2, 0]
    """
    column = {name: k for k, name in enumerate(labels)}
    for name in chosen:
        if name not in column:
            raise error(f"{printable(where)}: no label '{printable(name)}'{nearest(name, labels)}")
    return [column[name] for name in chosen]


def label_order(labels: Sequence[str], expected: Sequence[str]) -> NDArray[np.intp]:
    """Return the permutation that puts columns in the order of `labels` into the order of `expected`.

    Raises:
        DataError: The two sets of names differ.

    Example:
        >>> label_order(["cat", "dog"], ["dog", "cat"]).tolist()
        [1, 0]
    """
    if set(labels) != set(expected) or len(labels) != len(expected):
        missing = [name for name in expected if name not in set(labels)]
        extra = [name for name in labels if name not in set(expected)]
        parts = []
        if missing:
            parts.append(f"missing {_few(missing)}")
        if extra:
            parts.append(f"not expected {_few(extra)}")
        raise DataError(f"label sets differ ({len(labels)} here, {len(expected)} expected): {'; '.join(parts)}")
    position = {name: k for k, name in enumerate(labels)}
    return np.array([position[name] for name in expected], dtype=np.intp)


def image_of(sample_id: str) -> str:
    """Return the image of a sample: `image` for the id `image#k` of a box, otherwise the id itself.

    Example:
        >>> image_of("a.jpg#0"), image_of("a#1.jpg")
        ('a.jpg', 'a#1.jpg')
    """
    image, separator, place = sample_id.rpartition("#")
    return image if separator and place.isdigit() else sample_id


def clean_label(name: str, where: str, findings: ValidationReport) -> str:
    """Strip blanks around a label name and bring it into Unicode form NFC; each change is a warning.

    Example:
        >>> clean_label(" cat ", "a.csv", ValidationReport())
        'cat'
    """
    stripped = name.strip()
    if stripped != name:
        findings.warn("blanks around a label name were stripped", f"{where}: '{name}'")
    normal = unicodedata.normalize("NFC", stripped)
    if normal != stripped:
        findings.warn("a label name was brought to Unicode form NFC", f"{where}: '{name}'")
    if not normal:
        findings.error(where, "a label has an empty name; give it one")
    if holds_control(normal):
        findings.error(where, f"the label name '{printable(normal)}' holds a control character; rename it")
    return normal


def duplicates_in(names: Iterable[str]) -> list[str]:
    """Return repeated names, each once, in order of their second appearance.

    Example:
        >>> duplicates_in(["a", "b", "a", "a"])
        ['a']
    """
    seen: set[str] = set()
    repeated: dict[str, None] = {}
    for name in names:
        if name in seen:
            repeated[name] = None
        seen.add(name)
    return list(repeated)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{printable(name)}'" for name in names[:5])
    if len(names) > 5:
        shown += f" and {len(names) - 5} more"
    return shown


def _decode(kind: Any, line: bytes, path: Path, number: int) -> Any:
    try:
        return kind.decode(line) if isinstance(kind, msgspec.json.Decoder) else msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{printable(path)}: line {number}: {printable(error)}; prepare the dataset again") from error


def _targets(
    samples: Sequence[_Line], labels: Sequence[str], path: Path, findings: ValidationReport
) -> NDArray[np.int8]:
    column = {name: k for k, name in enumerate(labels)}
    targets = np.zeros((len(samples), len(labels)), dtype=np.int8)
    for row, sample in enumerate(samples):
        for value, names in ((POSITIVE, sample.positive), (UNKNOWN, sample.unknown)):
            for name in names:
                if name not in column:
                    findings.error(
                        f"{path}: line {row + 2}",
                        f"'{printable(name)}' is not one of the {counted(len(labels), 'label')}{nearest(name, labels)}",
                    )
                elif targets[row, column[name]] not in (NEGATIVE, value):
                    findings.error(f"{path}: line {row + 2}", f"'{printable(name)}' is both positive and unknown")
                else:
                    targets[row, column[name]] = value
    return targets
