"""What every reader of foreign annotations takes and returns. A new source is one file and one line in `READERS`.

Another package adds a reader with an entry point of the group `mlrec.readers`: the name of the kind, and its function
as `module:function`. Built-in kinds cannot be replaced. A function `recognizes` in the same module, if there is one,
makes the kind detectable.
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
    """What the user may say about a source; each reader uses what concerns it.

    Attributes:
        images: folder of the image files, where it is not found by the source's own layout.
        annotations, splits: own COCO-style JSON files, and the split that each of them is.
        labels: a choice of labels, in this order; for own VOC folders all names that may occur.
        year: which year of several in one COCO folder.
        split_names: splits of unusual names: the source's own name in lower case, and the split that it is.
        positive, negative, unknown: values of cells that have these meanings, besides 1, 0 and -1 (csv).
        empty: what a blank cell means, "negative" or "unknown" (csv).
        image_column, label_column: name of the column of images, and of a column that holds names of labels (csv).
        separator: what separates the labels in that column; an empty text means one label per cell (csv).
        no_label_value: text in that column that means no label (csv).
        ignore_columns: columns that are not labels (csv).
        keep_empty: keep images without any annotation (COCO leaves them out, as the paper does).
        seed: of the scenes, where they are drawn (shapes).
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
    """What a reader found, before any image file is opened.

    Attributes:
        name: the default name of the dataset ("voc2007").
        manifests: one a split, boxes as annotated.
        skipped: records left out, by reason.
        source: what `dataset.json` keeps to read the annotations again (boxes and masks by annotation id).
        stated_sizes: width and height that the annotations state, by image.
        recipe: the training recipe of this source.
        footnotes: lines that `prepare` prints.
        published: samples that the paper counts, by split; printed next to those that are kept.
        unpack: writes the images into a folder that it is given, for sources that hold images inside other files. The
            names in `manifests` are below that folder, and their `root` is not used.
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
# How a kind is recognized: a function that returns the reason in a few words, or None; see `detect`. A kind without an
# entry must be given by name.
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
# What concerns a reader beyond its path; `labels` concern all.
USED: dict[str, tuple[str, ...]] = {
    "voc": ("images", "split_names"),
    "coco": ("images", "annotations", "splits", "split_names", "year", "keep_empty"),
    "yolo": ("split_names",),
    "folders": ("split_names",),
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
    """The name of a dataset that is called after its file, without the ending, or after its folder.

    Example:
        >>> usual_name(Path("/data/pets.csv"))
        'pets'
    """
    path = path.absolute()
    return path.name if path.is_dir() else path.stem


def known_readers() -> dict[str, str]:
    """All kinds and their functions: those of mlrec, then those that other installed packages add.

    Example:
        >>> known_readers()["coco"]
        'mlrec.datasets.readers.coco:read_coco'
    """
    return added_by_packages(GROUPS["reader"]) | READERS


def known_recognizers() -> dict[str, str]:
    """The functions that recognize kinds: those of mlrec, and `recognizes` in the modules of other packages."""
    added = {kind: place.partition(":")[0] for kind, place in added_by_packages(GROUPS["reader"]).items()}
    found = {
        kind: f"{module}:recognizes" for kind, module in added.items() if kind not in READERS and _recognizes(module)
    }
    return found | RECOGNIZERS


def reader_of(kind: str) -> Reader:
    """The reader of a kind. Its module is loaded when it is needed."""
    reader: Reader = load_part(known_readers()[kind])
    return reader


def recognizer_of(kind: str) -> Recognizer:
    """The function that recognizes a kind. Its module is loaded when it is needed."""
    recognizer: Recognizer = load_part(known_recognizers()[kind])
    return recognizer


def _recognizes(module: str) -> bool:
    return hasattr(importlib.import_module(module), "recognizes")
