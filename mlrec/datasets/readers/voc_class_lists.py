"""Reader for VOC class lists, `ImageSets/Main/<class>_<split>.txt`, used if there are no XML files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.samples import ImageFinder, clean_labels, lines_of, manifest_of
from mlrec.datasets.split_names import known_split, resolve_names, usual_order
from mlrec.utils.errors import ValidationReport

LISTS, ANNOTATIONS, IMAGES = "ImageSets/Main", "Annotations", "JPEGImages"


def has_no_annotations(root: Path) -> bool:
    """Return whether labels are available only in class lists, not in XML files.

    The result is True if there is at least one class list and no XML file.
    """
    if next((root / ANNOTATIONS).glob("*.xml"), None) is not None:
        return False
    return bool(class_lists(root / LISTS))


def class_lists(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the files `<class>_<split>.txt` by split and class, with splits spelled as in the file names."""
    found: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.glob("[!.]*_*.txt")):
        label, _, split = file.stem.rpartition("_")
        if label and known_split(split):
            found.setdefault(split, {})[label] = file
    return found


def read_class_lists(
    root: Path, name: str, options: ReadOptions, findings: ValidationReport, *, labels: Sequence[str] | None = None
) -> Reading:
    """Read the labels from the class lists `ImageSets/Main/<class>_<split>.txt`.

    In class lists, 1 means positive, -1 means negative, and 0 (difficult) means unknown.

    Args:
        root: Folder that contains `ImageSets` and `JPEGImages`.
        name: Name of the dataset.
        options: Options set by the user; only `labels` and `split_names` are used.
        findings: Report that receives errors and warnings.
        labels: Class names, in order. By default, `options.labels`, or all classes that have lists, sorted by name.
    """
    lists = class_lists(root / LISTS)
    classes = tuple(labels or options.labels or sorted({label for files in lists.values() for label in files}))
    names = resolve_names({split: str(root / LISTS) for split in lists}, options.split_names, findings)
    finder = ImageFinder(root, findings)
    manifests = []
    for own in sorted(lists, key=lambda own: usual_order(names[own])):
        targets: dict[str, dict[str, int]] = {}
        for label in classes:
            if label not in lists[own]:
                what = (
                    f"split '{own}' has no list for class '{label}', but other classes have one; unpack the lists again"
                )
                findings.error(str(root / LISTS), what)
                continue
            for image, value in _class_list(lists[own][label], findings).items():
                targets.setdefault(image, {})[label] = value
        for image, known in targets.items():
            if len(known) < len(classes) and not findings.errors:
                missing = next(label for label in classes if label not in known)
                findings.error(
                    str(lists[own][missing]),
                    f"the list has no line for {image}, but other lists have one; unpack the lists again",
                )
        files = {finder.find(image, f"{root / LISTS}: {image}", (IMAGES, "")): image for image in targets}
        by_file = {file: targets[image] for file, image in files.items()}
        clean = clean_labels(classes, str(root / LISTS), findings)
        renamed = dict(zip(classes, clean, strict=True))
        by_file = {file: {renamed[label]: value for label, value in known.items()} for file, known in by_file.items()}
        manifests.append(manifest_of(names[own], root, clean, by_file, name=name))
    note = f"labels come from the class lists in {LISTS} because there are no XML annotations"
    return Reading(name, manifests, {"kind": "voc", "path": str(root)}, footnotes=[note])


def _class_list(file: Path, findings: ValidationReport) -> dict[str, int]:
    """Return the target of each image in the list of one class."""
    values = {"1": POSITIVE, "-1": NEGATIVE, "0": UNKNOWN}
    targets: dict[str, int] = {}
    for number, line in lines_of(file):
        image, _, value = line.rpartition(" ")
        where = f"{file}: line {number}"
        if value not in values or not image.strip():
            findings.error(where, f"'{line}' is not an image name followed by 1, -1 or 0; correct the line")
            continue
        if targets.setdefault(image.strip(), values[value]) != values[value]:
            findings.error(where, f"{image.strip()} occurs twice with different values; keep only one of these lines")
    return targets
