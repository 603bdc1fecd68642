"""`mlrec export-data`: export a prepared dataset for other tools. Preparing the export gives the same digests."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.export import as_coco, as_csv, with_unknown_as_negative
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.coco import read_coco
from mlrec.datasets.readers.csv_labels import read_csv_labels
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.utils.errors import DataError, MlrecError, ValidationReport, printable
from mlrec.utils.files import replace_folder, write_json, write_text

Format = Literal["csv", "coco"]


def export_data(
    data: Path | None = None,
    *,
    format_: Format = "csv",
    out: Path | None = None,
    splits: Sequence[str] | None = None,
    unknown_as_negative: bool = False,
) -> tuple[Path, str]:
    """Write one file per split into a new folder, and read it back as a check.

    Args:
        data: Folder of a prepared dataset; None: the dataset prepared last.
        format_: Format: `csv` writes `<split>.csv`, which `prepare csv FOLDER --images ROOT` reads; `coco` writes
            `<split>.json`, which `prepare coco ROOT --annotations FILE --split SPLIT --keep-empty` reads, both flags
            once for each file.
        out: New folder; default: `<name>-<format>`.
        splits: Splits to export; None: all.
        unknown_as_negative: Whether to write unknown labels as negative.

    Returns:
        Folder, and the command that prepares the dataset from it.

    Raises:
        DataError: The format cannot express the dataset, or the folder exists already.
    """
    dataset = Dataset.load(data) if data is not None else Dataset.latest()
    target = out if out is not None else Path(f"{dataset.info.name}-{format_}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{printable(target)}: exists already; remove it or choose another --out")
    manifests = [dataset.manifest(split) for split in splits or dataset.info.splits]
    if unknown_as_negative:
        manifests = [with_unknown_as_negative(manifest) for manifest in manifests]
    write = {"csv": _write_csv, "coco": _write_coco}[format_]
    with replace_folder(target) as folder:
        for manifest in manifests:
            if write(folder, manifest).digest != manifest.digest:
                raise MlrecError(
                    f"{printable(dataset.path)}: split '{printable(manifest.split)}' changes when it is read from "
                    f"{format_}; remove blanks at the ends of names"
                )
    return target, shlex.join(["mlrec", "prepare", *_read_again(target, format_, manifests)])


def _write_csv(folder: Path, manifest: Manifest) -> Manifest:
    write_text(folder / f"{manifest.split}.csv", as_csv(manifest))
    reading = read_csv_labels(folder / f"{manifest.split}.csv", ReadOptions(), ValidationReport())
    return reading.manifests[0]


def _write_coco(folder: Path, manifest: Manifest) -> Manifest:
    file = folder / f"{manifest.split}.json"
    write_json(file, as_coco(manifest))
    options = ReadOptions(annotations=(file,), splits=(manifest.split,), keep_empty=True)
    return read_coco(folder, options, ValidationReport()).manifests[0]


def _read_again(target: Path, format_: Format, manifests: Sequence[Manifest]) -> list[str]:
    root = str(manifests[0].root)
    if format_ == "csv":
        return ["csv", str(target), "--images", root]
    files = [("--annotations", str(target / f"{m.split}.json"), "--split", m.split) for m in manifests]
    return ["coco", root, "--name", target.name, "--keep-empty", *chain.from_iterable(files)]
