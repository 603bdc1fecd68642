"""Reader for VOC annotation files, which may be from untrusted sources.

`targets_of` converts the objects in a file to label values, including objects that are marked as difficult.
Files that contain a DTD, are nested too deeply or are larger than 10 MB are rejected.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlrec.datasets.manifest import POSITIVE, UNKNOWN
from mlrec.datasets.readers.xml_file import parse_xml
from mlrec.utils.errors import DataError, ValidationReport, counted, nearest
from mlrec.utils.names import alike, clean_label, normal

MAX_BYTES = 10_000_000
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Thing:
    """Annotated object, with its class, box and the flag `difficult`.

    The box is xmin, ymin, xmax, ymax in pixels counted from 1, or None if it is not annotated.
    """

    label: str
    difficult: bool
    corners: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Annotation:
    """Content of an annotation file: its name in messages, its objects in order, and the image size."""

    where: str
    objects: tuple[Thing, ...]
    size: tuple[int, int] | None


def read_annotation(path: Path, root: Path, findings: ValidationReport) -> Annotation | None:
    """Read one annotation, or return None if it is invalid.

    For an invalid annotation, an error with the path below `root` is added to `findings`.
    """
    where = str(path.relative_to(root.parent))
    try:
        tree = _parse(path, where)
    except DataError as error:
        findings.errors.append(str(error))
        return None
    _check_filename(tree, path.stem, where, findings)
    size = _size(tree)
    nodes = tree.findall("object")
    objects = tuple(_thing(node, f"{where}: object {k}", findings) for k, node in enumerate(nodes, 1))
    if not nodes:
        findings.warn("images without objects were labeled negative for every class", where)
    for thing in objects:
        if thing.corners is not None and not _inside(thing.corners, size):
            findings.warn("a box is outside its image; the label was kept", f"{where}: '{thing.label}'")
    return Annotation(where, objects, size)


def targets_of(annotation: Annotation, labels: Sequence[str], findings: ValidationReport) -> list[int]:
    """Return the target of each label (positive, negative or unknown), as in the class lists of VOC.

    A label is positive if at least one object of this class is not difficult. A label is unknown if all objects of
    this class are difficult. If the class of an object is not one of the labels, an error is reported, with the
    nearest label as a suggestion.
    """
    targets = dict.fromkeys(labels, 0)
    for number, thing in enumerate(annotation.objects, 1):
        if not thing.label:
            continue  # already reported when the object was read
        if thing.label not in targets:
            hint = nearest(thing.label, labels) or "; correct the name"
            what = f"class '{thing.label}' is not one of the {counted(len(labels), 'class', 'classes')}{hint}"
            findings.error(f"{annotation.where}: object {number}", what)
        elif not thing.difficult:
            targets[thing.label] = POSITIVE
        elif targets[thing.label] != POSITIVE:
            targets[thing.label] = UNKNOWN
    return list(targets.values())


def _parse(path: Path, where: str) -> ET.Element:
    if not path.exists():
        near = alike(path)
        remedy = f"did you mean {near}?" if near else "unpack the archive again"
        raise DataError(f"{where}: the annotation file of a listed image does not exist; {remedy}")
    tree = parse_xml(path, where, ET.TreeBuilder(), MAX_BYTES)
    if not isinstance(tree, ET.Element) or tree.tag != "annotation":
        raise DataError(f"{where}: the root element is not <annotation>; replace the file with a VOC annotation")
    return tree


def _check_filename(tree: ET.Element, stem: str, where: str, findings: ValidationReport) -> None:
    name = (tree.findtext("filename") or "").strip()
    if ".." in name.replace("\\", "/").split("/") or name.startswith("/"):
        findings.error(where, f"<filename> '{name}' is outside the image folder; correct the name")
    elif name and normal(stem) not in _last_part(name):
        findings.warn(
            "<filename> refers to a different image; the name of the XML file was used", f"{where} ('{name}')"
        )


def _last_part(name: str) -> tuple[str, str]:
    """Return the file name without folders, with and without its extension."""
    base = normal(name).rpartition("/")[2]
    return base, base.rpartition(".")[0]


def _size(tree: ET.Element) -> tuple[int, int] | None:
    width, height = (_number(tree.findtext(f"size/{side}")) for side in ("width", "height"))
    if not (math.isfinite(width) and math.isfinite(height) and width >= 1 and height >= 1):
        return None
    return int(width), int(height)


def _thing(node: ET.Element, where: str, findings: ValidationReport) -> Thing:
    name, label = node.findtext("name"), ""
    if name is None:
        findings.error(where, "the object has no <name>; add the class name")
    else:
        label = clean_label(name, where, findings)
    difficult = (node.findtext("difficult") or "0").strip() or "0"
    if difficult.casefold() == "unspecified":
        findings.warn("<difficult> is 'Unspecified'; the object was read as not difficult", where)
    elif difficult not in ("0", "1"):
        findings.error(where, f"<difficult> is '{difficult}', but must be 0 or 1; correct the value")
    numbers = [_number(node.findtext(f"bndbox/{corner}")) for corner in CORNERS]
    if not all(map(math.isfinite, numbers)):
        findings.warn("an object has no valid box; the label was kept", where)
        return Thing(label, difficult == "1", None)
    return Thing(label, difficult == "1", (numbers[0], numbers[1], numbers[2], numbers[3]))


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _inside(corners: tuple[float, float, float, float], size: tuple[int, int] | None) -> bool:
    left, top, right, bottom = corners
    ordered = 0 <= left <= right and 0 <= top <= bottom
    return ordered and (size is None or (right <= size[0] and bottom <= size[1]))
