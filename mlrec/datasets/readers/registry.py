"""Interface for all readers of third-party annotations.

To add a reader, add one file and one line in `READERS`. A line in `RECOGNIZERS` lets `mlrec prepare PATH` detect the
format, and a line in `USED` lists the options that the reader uses.

Other packages add readers with entry points in the group `mlrec.readers`. The name of the entry point is the kind, and
its value is the reader function as `module:function`. Built-in kinds cannot be replaced. If the module also defines a
function `recognizes`, the kind can be detected.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlrec.datasets.manifest import Manifest
from mlrec.utils.errors import ValidationReport
from mlrec.utils.plugins import GROUPS, added_by_packages, load_part


@dataclass(frozen=True)
class ReadOptions:
    """Options set by the user for a source; each reader uses the options that apply to its format.

    Attributes:
        images: Folder of the images if it is not in the usual place for this kind of source.
        annotations, splits: Paths of custom COCO JSON files, and the split of each file.
        labels: Labels to use, in this order. In a custom VOC folder with XML files and in WebDataset, any other label
            is an error.
        year: Year to read if a COCO folder contains multiple years.
        split_names: Mapping from unusual split names in the source, in lower case, to splits.
        positive, negative, unknown: Cell values that mean positive, negative or unknown, in addition to 1, 0 and -1
            (only for the kind `csv`).
        empty: Meaning of a blank cell, "negative" or "unknown"; if None, a blank label value is an error (only for the
            kind `csv`).
        image_column, label_column: Names of the columns that contain image names and label names (only for the kind
            `csv`).
        separator: Text between two labels in a cell of the label column, or in the name of a class folder. An empty
            string means one label per cell (only for the kinds `csv` and `folders`).
        no_label_value: Name in the label column that means no label (only for the kind `csv`).
        ignore_columns: Columns that are not labels (only for the kind `csv`).
        keep_empty: Whether to keep images without any annotation in COCO 2014 and 2017. By default, they are skipped,
            as in the paper.
        seed: Random seed for the scenes (only for the kind `shapes`).
    """

    images: Path | None = None
    annotations: tuple[Path, ...] = ()
    splits: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    year: str | None = None
    split_names: Mapping[str, str] = field(default_factory=dict)
    positive: str | None = None
    negative: str | None = None
    unknown: str | None = None
    empty: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    separator: str | None = None
    no_label_value: str | None = None
    ignore_columns: tuple[str, ...] = ()
    keep_empty: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Reading:
    """Result of a reader, before any image file is opened.

    Attributes:
        name: Default name of the dataset ("voc2007").
        manifests: One manifest per split. Boxes are not clipped.
        skipped: Number of skipped records, by reason.
        source: Part of `dataset.json` that is needed to read boxes and masks from the annotations again.
        stated_sizes: Mapping from image names to annotated widths and heights; images without them are omitted.
        recipe: Training recipe for this source.
        footnotes: Additional lines that `prepare` prints.
        published: Number of samples in each split according to the paper, printed next to the actual number.
        unpack: Function that writes the images into a folder if the source stores images inside other files. The image
            names in `manifests` are then relative to this folder, and `root` is not used.
    """

    name: str
    manifests: list[Manifest]
    source: dict[str, Any]
    skipped: dict[str, int] = field(default_factory=dict)
    stated_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    recipe: str = "paper"
    footnotes: list[str] = field(default_factory=list)
    published: dict[str, int] = field(default_factory=dict)
    unpack: Callable[[Path], None] | None = None


Reader = Callable[[Path, ReadOptions, ValidationReport], Reading]
Recognizer = Callable[[Path], str | None]

READERS: dict[str, str] = {
    "voc2007": "mlrec.datasets.readers.voc:read_voc2007",
    "voc2012": "mlrec.datasets.readers.voc:read_voc2012",
    "voc": "mlrec.datasets.readers.voc_custom:read_own_voc",
    "coco": "mlrec.datasets.readers.coco:read_coco",
    "shapes": "mlrec.datasets.readers.shapes:read_shapes",
    "wider": "mlrec.datasets.readers.wider:read_wider",
    "yolo": "mlrec.datasets.readers.yolo:read_yolo",
    "csv": "mlrec.datasets.readers.csv_labels:read_csv_labels",
    "folders": "mlrec.datasets.readers.class_folders:read_folders",
    "labelstudio": "mlrec.datasets.readers.labelstudio:read_labelstudio",
    "cvat": "mlrec.datasets.readers.cvat:read_cvat",
    "openimages": "mlrec.datasets.readers.openimages:read_openimages",
    "nuswide": "mlrec.datasets.readers.nuswide:read_nuswide",
    "fiftyone": "mlrec.datasets.readers.fiftyone:read_fiftyone",
    "webdataset": "mlrec.datasets.readers.webdataset:read_webdataset",
    "pa100k": "mlrec.datasets.readers.pa100k:read_pa100k",
    "peta": "mlrec.datasets.readers.peta:read_peta",
}
# Recognizers by kind: functions that return the reason in a few words, or None; see `detect`.
# A kind without an entry must be specified by name.
RECOGNIZERS: dict[str, str] = {
    "voc2007": "mlrec.datasets.readers.voc:recognizes_voc2007",
    "voc2012": "mlrec.datasets.readers.voc:recognizes_voc2012",
    "voc": "mlrec.datasets.readers.voc_custom:recognizes",
    "coco": "mlrec.datasets.readers.coco_layout:recognizes",
    "wider": "mlrec.datasets.readers.wider:recognizes",
    "yolo": "mlrec.datasets.readers.yolo_layout:recognizes",
    "folders": "mlrec.datasets.readers.class_folders:recognizes",
    "labelstudio": "mlrec.datasets.readers.labelstudio:recognizes",
    "cvat": "mlrec.datasets.readers.cvat:recognizes",
    "openimages": "mlrec.datasets.readers.openimages:recognizes",
    "nuswide": "mlrec.datasets.readers.nuswide:recognizes",
    "fiftyone": "mlrec.datasets.readers.fiftyone:recognizes",
    "webdataset": "mlrec.datasets.readers.webdataset:recognizes",
    "pa100k": "mlrec.datasets.readers.pa100k:recognizes",
    "peta": "mlrec.datasets.readers.peta:recognizes",
    "csv": "mlrec.datasets.readers.table_folder:recognizes",
}
# Options that apply to each reader in addition to the path; `labels` applies to all readers.
USED: dict[str, tuple[str, ...]] = {
    "voc": ("images", "split_names"),
    "coco": ("images", "annotations", "splits", "split_names", "year", "keep_empty"),
    "yolo": ("split_names",),
    "folders": ("split_names", "separator"),
    "labelstudio": ("images", "split_names"),
    "cvat": ("images", "split_names"),
    "openimages": ("images", "split_names"),
    "nuswide": ("images",),
    "fiftyone": ("images", "split_names"),
    "webdataset": ("split_names",),
    "pa100k": ("images",),
    "peta": ("images",),
    "shapes": ("seed",),
    "csv": (
        *("images", "split_names", "image_column", "label_column", "ignore_columns"),
        *("positive", "negative", "unknown", "empty", "separator", "no_label_value"),
    ),
}


def usual_name(path: Path) -> str:
    """Return the default name of a dataset: the file name without its extension, or the folder name.

    Example:
        >>> usual_name(Path("/data/pets.csv"))
        'pets'
    """
    path = path.absolute()
    return path.name if path.is_dir() else path.stem


def known_readers() -> dict[str, str]:
    """Return a mapping from kinds to reader functions, including those of other packages.

    Example:
        >>> known_readers()["coco"]
        'mlrec.datasets.readers.coco:read_coco'
    """
    return added_by_packages(GROUPS["reader"]) | READERS


def known_recognizers() -> dict[str, str]:
    """Return a mapping from kinds to functions that recognize them, from mlrec and other packages."""
    added = {kind: place.partition(":")[0] for kind, place in added_by_packages(GROUPS["reader"]).items()}
    found = {
        kind: f"{module}:recognizes" for kind, module in added.items() if kind not in READERS and _recognizes(module)
    }
    return found | RECOGNIZERS


def reader_of(kind: str) -> Reader:
    """Return the reader for a kind. The module is imported on demand."""
    reader: Reader = load_part(known_readers()[kind])
    return reader


def recognizer_of(kind: str) -> Recognizer:
    """Return the function that recognizes a kind. The module is imported on demand."""
    recognizer: Recognizer = load_part(known_recognizers()[kind])
    return recognizer


def _recognizes(module: str) -> bool:
    return hasattr(importlib.import_module(module), "recognizes")
