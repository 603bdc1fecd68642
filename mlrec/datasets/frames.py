"""Conversion of manifests to and from data frames and Hugging Face datasets.

The public interface consists of the methods `to_frame`, `from_frame`, `to_hf` and `from_hf` of `Manifest`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.image_paths import name_below
from mlrec.datasets.images.decode import Pixels, decode_box
from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest
from mlrec.utils.errors import DataError, ValidationReport, counted, nearest
from mlrec.utils.names import clean_label, duplicates_in, image_name

if TYPE_CHECKING:
    from pandas import DataFrame, Series

IMAGE_COLUMNS = ("image", "filename")
BOX_COLUMNS = ("x", "y", "width", "height")
OTHER_COLUMNS = ("id", "split")


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample in a manifest.

    Attributes:
        id: Name of the sample.
        path: Path of the image file.
        labels: Names of the positive labels.
        unknown: Names of the unknown labels; all other labels are negative.
        target: (C,) int8 array of 1 (positive), 0 (negative) or -1 (unknown).
        box: Box as x, y, width, height in pixels of the stored image, or None for the whole image.
    """

    id: str
    path: Path
    labels: tuple[str, ...]
    unknown: tuple[str, ...]
    target: NDArray[np.int8]
    box: tuple[float, float, float, float] | None

    def pixels(self) -> Pixels:
        """Decode the image, or the part inside `box`, to an upright (H, W, 3) uint8 array of RGB pixels.

        Raises:
            DataError: The file is missing or is not an image.
        """
        return decode_box(self.path, self.box)


def sample_of(manifest: Manifest, position: int) -> Sample:
    """Return the sample at a position; a negative position counts from the end.

    Raises:
        IndexError: The position is out of range.
    """
    if not -len(manifest) <= position < len(manifest):
        raise IndexError(f"sample {position} is out of range for {counted(len(manifest), 'sample')}")
    k = position % len(manifest)
    target = manifest.target_rows(np.array([k]))[0]
    positive, unknown = (
        tuple(manifest.labels[column] for column in np.flatnonzero(target == value)) for value in (POSITIVE, UNKNOWN)
    )
    return Sample(manifest.sample_ids[k], manifest.path_of(k), positive, unknown, target, manifest.box_of(k))


def to_frame(manifest: Manifest, *, labels_only: bool = False) -> DataFrame:
    """Convert a manifest to a data frame; see `Manifest.to_frame`."""
    import pandas as pd

    index = pd.Index(list(manifest.sample_ids), name="id")
    targets = pd.DataFrame(manifest.targets, index=index, columns=list(manifest.labels), copy=True)
    if labels_only:
        return targets
    columns: dict[str, Any] = {"image": list(manifest.images), "split": manifest.split}
    if manifest.boxes is not None:
        columns |= {name: manifest.boxes[:, k] for k, name in enumerate(BOX_COLUMNS)}
    for label in manifest.labels:
        if label in columns:
            raise DataError(f"the label '{label}' has the same name as another column; pass labels_only=True")
    known = targets.astype("Int8").mask(targets == UNKNOWN)  # use missing values because -1 would change means and sums
    return pd.concat([pd.DataFrame(columns, index=index), known], axis=1)


def from_frame(
    frame: DataFrame, root: Path | str, *, name: str, split: str | None, labels: Sequence[str] | None
) -> Manifest:
    """Create a manifest from a data frame; see `Manifest.from_frame`."""
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"expected a pandas.DataFrame, got {type(frame).__name__}; convert it with pandas.DataFrame")
    rows = _rows_of_split(frame, split)
    findings = ValidationReport()
    columns = _label_columns(rows, labels)
    names = [clean_label(str(column), "the data frame", findings) for column in columns]
    for repeated in duplicates_in(names):
        findings.error(
            "the data frame", f"two columns contain the targets of label '{repeated}'; keep only one of them"
        )
    root = Path(root).absolute()
    images = _images(rows, root, findings)
    targets = np.empty((len(rows), len(columns)), np.int8)
    for k, column in enumerate(columns):
        targets[:, k] = _targets(rows[column], findings)
    boxes = None
    if _has_boxes(rows):
        boxes = rows[list(BOX_COLUMNS)].to_numpy(dtype=np.float64)
    ids = _ids(rows, images, boxes is not None)
    for repeated in duplicates_in(ids):
        findings.error("the data frame", f"multiple rows contain sample '{repeated}'; keep only one of them")
    findings.raise_errors("the data frame is invalid", "")
    if split is None and "split" in rows and len(rows):
        split = str(rows["split"].iloc[0])
    return Manifest(name, split or "all", root, tuple(names), tuple(images), targets, boxes, tuple(ids))


def _rows_of_split(frame: DataFrame, split: str | None) -> DataFrame:
    """Return the rows of one split."""
    repeated = duplicates_in(map(str, frame.columns))
    if repeated:
        raise DataError(f"the data frame has two columns named '{repeated[0]}'; keep only one of them")
    if "split" not in frame:
        return frame
    splits = list(dict.fromkeys(frame["split"].astype(str)))
    shown = ", ".join(splits)
    if split is None and len(splits) > 1:
        raise DataError(f"the data frame has multiple splits ({shown}); choose one with the 'split' argument")
    if split is not None and split not in splits:
        raise DataError(f"the data frame has no split '{split}'; choose one of {shown}")
    return frame if split is None else frame[frame["split"].astype(str) == split]


def _has_boxes(frame: DataFrame) -> bool:
    return all(column in frame for column in BOX_COLUMNS)


def _label_columns(frame: DataFrame, labels: Sequence[str] | None) -> list[Any]:
    """Return the label columns: the columns in `labels`, or all columns that do not describe the image."""
    by_name = {str(column): column for column in frame.columns}
    if labels is not None:
        for label in labels:
            if label not in by_name:
                raise DataError(
                    f"the data frame has no column '{label}'{nearest(label, by_name) or '; correct the list of labels'}"
                )
        return [by_name[label] for label in labels]
    others = {*IMAGE_COLUMNS, *OTHER_COLUMNS}
    if _has_boxes(frame):
        others |= set(BOX_COLUMNS)
    return [column for column in frame.columns if str(column) not in others]


def _images(frame: DataFrame, root: Path, findings: ValidationReport) -> list[str]:
    """Return the paths of the images below `root`."""
    column = next((name for name in IMAGE_COLUMNS if name in frame), None)
    if column is None:
        where, values, remedy = "the index", frame.index.tolist(), "add an 'image' column"
    else:
        where, values, remedy = f"column '{column}'", frame[column].tolist(), "correct the value"
    images = []
    for value in values:
        if not isinstance(value, str | Path):
            findings.error(where, f"{value!r} is not an image path; {remedy}")
            continue
        inside: str | None = str(value)
        if Path(value).is_absolute():
            inside = name_below(root, Path(value))
        if inside is None:
            findings.error(where, f"'{value}' is not in the folder {root}; pass the image folder as root")
            continue
        images.append(image_name(inside, where, findings))
    return images


def _targets(column: Series[Any], findings: ValidationReport) -> NDArray[np.int8]:
    """Convert a column of 1, 0, -1, True, False and missing values to 1, 0 and -1 (-1 if missing)."""
    import pandas as pd

    where = f"column '{column.name}'"
    numeric = pd.api.types.is_numeric_dtype(column) or all(isinstance(v, bool | int | float) for v in column.dropna())
    if not numeric:  # includes the text "1", which may be a number with a different meaning
        findings.error(
            where, "the values are not numbers; in labels=[...], list only columns whose values are 1, 0, -1 or NaN"
        )
        return np.zeros(len(column), np.int8)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = np.where(np.isnan(values), UNKNOWN, values)
    wrong = ~np.isin(values, (POSITIVE, NEGATIVE, UNKNOWN))
    if wrong.any():
        row = int(wrong.argmax())
        findings.error(f"{where}, row '{column.index[row]}'", f"{values[row]:g} is not 1, 0 or -1; correct the value")
        return np.zeros(len(column), np.int8)
    return values.astype(np.int8)


def _ids(frame: DataFrame, images: Sequence[str], boxed: bool) -> list[str]:
    """Return the sample names from the index, the column `id` or the images.

    The names are the index or the column `id`, otherwise the image, followed by a number for a box.
    """
    if frame.index.name == "id" or not any(name in frame for name in IMAGE_COLUMNS):
        return [str(name) for name in frame.index]
    if "id" in frame:
        return [str(name) for name in frame["id"]]
    if not boxed:
        return list(images)
    count: dict[str, int] = {}
    ids = []
    for image in images:
        count[image] = count.get(image, -1) + 1
        ids.append(f"{image}#{count[image]}")
    return ids


def to_hf(manifest: Manifest) -> Any:
    """Convert a manifest to a Hugging Face dataset; see `Manifest.to_hf`."""
    hf = _hugging_face()
    names = hf.Sequence(hf.ClassLabel(names=list(manifest.labels)))
    columns: dict[str, tuple[Any, list[Any]]] = {
        "id": (hf.Value("string"), list(manifest.sample_ids)),
        "image": (hf.Image(), [str(manifest.path_of(k)) for k in range(len(manifest))]),
        "labels": (names, [np.flatnonzero(row == POSITIVE).tolist() for row in manifest.targets]),
        "unknown": (names, [np.flatnonzero(row == UNKNOWN).tolist() for row in manifest.targets]),
    }
    if manifest.boxes is not None:
        columns["box"] = (hf.Sequence(hf.Value("float64"), length=4), manifest.boxes.tolist())
    features = hf.Features({column: feature for column, (feature, _) in columns.items()})
    values = {column: cells for column, (_, cells) in columns.items()}
    return hf.Dataset.from_dict(values, features=features, split=hf.NamedSplit(re.sub(r"\W", "_", manifest.split)))


def from_hf(dataset: Any, root: Path | str, *, name: str, split: str | None, labels: Sequence[str] | None) -> Manifest:
    """Create a manifest from a Hugging Face dataset; see `Manifest.from_hf`."""
    import pandas as pd

    hf = _hugging_face()
    if not isinstance(dataset, hf.Dataset):
        raise DataError(
            f"from_hf expects one split, not a {type(dataset).__name__}; select a split, for example dataset['train']"
        )
    if not isinstance(dataset.features.get("image"), hf.Image):
        raise DataError(
            f"the dataset has no image column named 'image'; rename the image column to 'image' (available columns: "
            f"{', '.join(dataset.features)})"
        )
    root = Path(root).absolute()
    stored = dataset.cast_column("image", hf.Image(decode=False))
    images = [_stored_image(row, k, root) for k, row in enumerate(stored["image"])]
    others = dataset.remove_columns("image").to_dict()
    if labels is None:
        labels, targets = _targets_of_lists(dataset, others)
    else:
        targets = [others.get(label) for label in labels]
    columns: dict[str, Any] = {"image": images}
    columns |= {label: cells for label, cells in zip(labels, targets, strict=True) if cells is not None}
    if "id" in others:
        columns["id"] = others["id"]
    if "box" in others:
        columns |= dict(zip(BOX_COLUMNS, np.reshape(others["box"], (-1, 4)).T, strict=True))
    if not split and dataset.split is not None:
        split = str(dataset.split)
    return from_frame(pd.DataFrame(columns), root, name=name, split=split, labels=labels)


def _targets_of_lists(dataset: Any, columns: dict[str, Any]) -> tuple[list[str], list[NDArray[np.int8]]]:
    """Return the label names and the targets of each label, from lists of labels.

    The lists contain positive and, optionally, unknown labels.
    """
    classes = getattr(dataset.features.get("labels"), "feature", None)
    names = getattr(classes, "names", None)
    if names is None:
        raise DataError(
            "column 'labels' is not a Sequence(ClassLabel); convert it, or pass the names of columns that contain "
            "1, 0 and -1 as labels=[...]"
        )
    targets = np.zeros((len(dataset), len(names)), np.int8)
    for column, value in (("labels", POSITIVE), ("unknown", UNKNOWN)):
        for row, chosen in enumerate(columns.get(column, ())):
            if chosen is None:
                what = "labels" if column == "labels" else "unknown labels"
                raise DataError(
                    f"row {row}: the value in column '{column}' is None; use an empty list [] if the sample has "
                    f"no {what}"
                )
            if (targets[row, chosen] == POSITIVE).any():
                raise DataError(
                    f"row {row}: a label is both positive and unknown; remove it from 'labels' or 'unknown'"
                )
            targets[row, chosen] = value
    return list(names), list(targets.T)


def _stored_image(image: dict[str, Any], row: int, root: Path) -> str:
    """Return the path of an image below `root`; an image stored as bytes is written to this path."""
    from mlrec.datasets.readers.table_parquet import SIGNATURES
    from mlrec.utils.files import write_bytes

    path, content = image["path"], image["bytes"]
    if content is None:
        return str(path)
    name = Path(path).name if path else f"{row:06d}"
    if not Path(name).suffix:
        name += next((ending for start, ending in SIGNATURES.items() if content.startswith(start)), "")
    target = root / name
    if not target.exists():
        write_bytes(target, content)
    elif target.read_bytes() != content:
        raise DataError(f"{target}: the file already exists with different content; pass an empty folder as root")
    return name


def _hugging_face() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "Hugging Face datasets require the datasets package; install it with pip install 'mlrec[datasets]'"
        ) from error
    return datasets
