"""Reader for FiftyOne image classification exports: the file `labels.json` and the folder `data`.

In `labels.json`, the key `labels` maps each image name (without extension) to the labels of the image. Labels are
indices into `classes`, or strings if `classes` is null. An empty list means that the image has no labels. `null` means
that the image is not annotated, so all labels are unknown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from mlrec.datasets.manifest import POSITIVE, UNKNOWN
from mlrec.datasets.readers.json_file import read_json
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.samples import ImageFinder, as_list, clean_labels, first_bytes, manifest_of
from mlrec.datasets.split_names import WHOLE, known_split, resolve_names, usual_order
from mlrec.utils.errors import DataError, ValidationReport, counted
from mlrec.utils.files import folder_of
from mlrec.utils.names import clean_label

FILE, IMAGES = "labels.json", "data"
_START = re.compile(rb'\s*\{\s*"(classes|labels)"\s*:\s*(\[|null|\{)')


class _LabelsFile(msgspec.Struct):
    labels: dict[str, Any]
    classes: list[str] | None = None


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as a FiftyOne export, otherwise None."""
    for file in _files(path):
        if _START.match(first_bytes(file)):
            return f"{file.name} has the keys of a FiftyOne image classification export"
    return None


def read_fiftyone(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read `labels.json` and the images in `data` next to it.

    Each split folder can have its own `labels.json`. If `options.images` is set, the images are in that folder.

    Labels are in the order of `classes`. Without `classes`, all labels that occur are used, sorted by name.

    Raises:
        DataError: There is no labels.json, a file is not an image classification export, or there are no labels.
    """
    home = folder_of(path.absolute())
    root = (options.images or home).absolute()
    files = _files(path.absolute())
    if not files:
        raise DataError(f"{home}: no {FILE} found; specify the folder of the FiftyOne export, or its {FILE}")
    contents = {file: read_json(file, _LabelsFile, findings) for file in files}
    labels = _labels(contents, findings)
    if not labels:
        raise DataError(f"{files[0]}: 'classes' lists no labels, and no image has a label; add labels")
    own = {file: file.parent.name for file in files if file.parent != home}
    names = resolve_names({name: str(file) for file, name in own.items()}, options.split_names, findings)
    finder = ImageFinder(root, findings)
    targets: dict[str, dict[str, dict[str, int]]] = {}
    for file, content in contents.items():
        split = names[own[file]] if file in own else WHOLE
        folder = file.parent.relative_to(home)
        folders = [(folder / IMAGES).as_posix(), folder.as_posix().removeprefix(".")]
        if options.images:
            folders = ["", IMAGES]
        known = targets.setdefault(split, {})
        for name, value in content.labels.items():
            where = f"{file}: labels['{name}']"
            image = finder.find(name, where, folders)
            known[image] = _targets(value, labels, content.classes, where, findings)
    order = sorted(targets, key=usual_order)
    manifests = [manifest_of(split, root, labels, targets[split], name=home.name) for split in order]
    return Reading(home.name, manifests, {"kind": "fiftyone", "path": str(path.absolute())})


def _files(path: Path) -> list[Path]:
    """Return the `labels.json` of a folder, or the `labels.json` files of its split folders."""
    if path.is_file() and path.suffix.lower() == ".json":
        return [path]
    if (path / FILE).is_file():
        return [path / FILE]
    return [file for file in sorted(path.glob(f"[!.]*/{FILE}")) if known_split(file.parent.name)]


def _labels(contents: dict[Path, _LabelsFile], findings: ValidationReport) -> tuple[str, ...]:
    """Return the classes from all files, in order; without classes, return all labels that occur, sorted."""
    names: dict[str, None] = {}
    found: set[str] = set()
    for file, content in contents.items():
        if content.classes is not None:
            names |= dict.fromkeys(clean_labels(content.classes, f"{file}: classes", findings))
        else:
            texts = (entry for value in content.labels.values() for entry in _entries(value))
            found |= {clean_label(text, str(file), findings) for text in texts if isinstance(text, str)}
    return tuple(names | dict.fromkeys(sorted(found)))


def _entries(value: Any) -> list[Any]:
    """Return indices or names of labels.

    An entry with a confidence or attributes is an object with a `label`.
    """
    entries = []
    for entry in as_list(value):
        if isinstance(entry, dict):
            entry = entry.get("label", entry)
        entries.append(entry)
    return entries


def _targets(
    value: Any, labels: tuple[str, ...], classes: list[str] | None, where: str, findings: ValidationReport
) -> dict[str, int]:
    if value is None:
        findings.warn("labels of images without annotations were set to unknown", where)
        return dict.fromkeys(labels, UNKNOWN)
    known: dict[str, int] = {}
    for entry in _entries(value):
        number = isinstance(entry, int) and not isinstance(entry, bool)
        if number and classes is not None and 0 <= entry < len(classes):
            known[clean_label(classes[entry], where, findings)] = POSITIVE
        elif number:
            findings.error(
                where,
                f"{entry} is not the index of one of the {counted(len(classes or ()), 'class', 'classes')}; correct "
                "the index",
            )
        elif isinstance(entry, str) and clean_label(entry, where, findings) in labels:
            known[clean_label(entry, where, findings)] = POSITIVE
        else:
            findings.error(where, f"label '{entry}' is not in 'classes'; add the label to 'classes'")
    return known
