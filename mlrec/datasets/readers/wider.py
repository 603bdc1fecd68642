"""Reader for WIDER-Attribute: images of people; each person has a box and 14 attributes.

Each attribute of a person is positive, negative or unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest
from mlrec.datasets.readers.json_file import read_json
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.names import image_name

LABELS = (
    "male", "longHair", "sunglass", "hat", "tShirt", "longSleeve", "formal",
    "shorts", "jeans", "longPants", "skirt", "faceMask", "logo", "stripe",
)  # fmt: skip
FOLDERS = ("Annotations", "wider_attribute_annotation", "Anno", ".")
SPLITS = ("trainval", "test")
IMAGES = "Image"
PERSONS = {"trainval": 28_345, "test": 29_179}  # number of persons in the paper
VALUES = {1: POSITIVE, -1: NEGATIVE, 0: UNKNOWN}
_SPELLINGS = {"tshiirt": "tshirt"}  # spelling in some copies of the annotation file


class _Target(msgspec.Struct, gc=False):
    attribute: list[int]
    bbox: list[float]


class _WiderImage(msgspec.Struct, gc=False):
    file_name: str
    targets: list[_Target]


class _WiderFile(msgspec.Struct):
    images: list[_WiderImage]
    attribute_id_map: dict[str, str]


@dataclass(frozen=True)
class _Person:
    """One sample: a person in an image.

    The attributes are the image below the root, the position in the image's list of persons, the targets and the box.
    """

    image: str
    place: int
    values: list[int]
    box: list[float]


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as WIDER-Attribute, otherwise None."""
    for split in SPLITS:
        if file := _annotation_file(path, f"wider_attribute_{split}.json"):
            return f"it contains {file.name}"
    return None


def read_wider(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:  # noqa: ARG001 - as every reader
    """Read `wider_attribute_{trainval,test}.json`; images are in `path/Image`.

    The attribute value 1 means positive, -1 means negative, and 0 means unknown. If the images of trainval are in the
    folders `train/` and `val/`, the splits train and val are also created.

    Raises:
        DataError: There is no annotation file, or the file cannot be read.
    """
    root = path.absolute()
    manifests = []
    for split in SPLITS:
        file = _annotation_file(root, f"wider_attribute_{split}.json")
        if file is None:
            findings.warn(f"split '{split}' is absent because its file is missing", f"wider_attribute_{split}.json")
            continue
        content = read_json(file, _WiderFile, findings)
        _check_names(content.attribute_id_map, file, findings)
        persons = list(_persons(content.images, file, findings))
        if split == "trainval":
            manifests += _parts(persons, root)
        manifests.append(_manifest(split, persons, root))
    if not manifests:
        raise DataError(
            f"{path}: no wider_attribute_trainval.json found in {' or '.join(FOLDERS)}; specify the WIDER folder"
        )
    published = {m.split: PERSONS[m.split] for m in manifests if m.split in PERSONS}
    return Reading("wider", manifests, {"kind": "wider", "path": str(root)}, published=published)


def _annotation_file(root: Path, name: str) -> Path | None:
    found = (root / folder / name for folder in FOLDERS)
    return next((file for file in found if file.exists()), None)


def _check_names(named: dict[str, str], file: Path, findings: ValidationReport) -> None:
    """Check that the columns are the 14 attributes of the paper, in the order of the paper.

    Case, blanks and punctuation may differ.
    """
    expected = {str(k): label for k, label in enumerate(LABELS)}
    for key in sorted(expected.keys() | named.keys(), key=lambda key: (len(key), key)):
        have, want = named.get(key), expected.get(key)
        if have is None or want is None or _folded(have) != _folded(want):
            actual = "no entry" if have is None else f"'{have}'"
            required = f"'{want}'" if want else f"{len(LABELS)} attributes"
            findings.error(
                f"{file}: attribute_id_map[{key}]", f"found {actual}, expected {required}; download the file again"
            )


def _folded(name: str) -> str:
    plain = re.sub(r"[^a-z]", "", name.casefold())
    return _SPELLINGS.get(plain, plain)


def _persons(images: list[_WiderImage], file: Path, findings: ValidationReport) -> Iterator[_Person]:
    first: dict[str, _WiderImage] = {}
    for number, image in enumerate(images):
        where = f"{file}: images[{number}] ({image.file_name})"
        name = f"{IMAGES}/{image_name(image.file_name, f'{file}: images[{number}]: file_name', findings)}"
        earlier = first.setdefault(name, image)
        if earlier is not image:
            if earlier == image:
                findings.warn("duplicate records were merged", where)
            else:
                findings.error(where, "the image occurs twice with different targets; keep only one entry")
            continue
        for place, target in enumerate(image.targets):
            if values := _values(target, f"{where}: targets[{place}]", findings):
                yield _Person(name, place, values, target.bbox)


def _values(target: _Target, where: str, findings: ValidationReport) -> list[int]:
    """Return the 14 targets of a person, or an empty list if the record is invalid."""
    if len(target.bbox) != 4:
        findings.error(where, f"bbox has {len(target.bbox)} numbers; expected x, y, width and height")
    if len(target.attribute) != len(LABELS):
        findings.error(where, f"{len(target.attribute)} attributes, expected {len(LABELS)}")
        return []
    for label, value in zip(LABELS, target.attribute, strict=True):
        if value not in VALUES:
            findings.error(where, f"attribute '{label}' is {value}; expected 1, -1 or 0 (unspecified)")
    if len(target.bbox) != 4:
        return []
    return [VALUES.get(value, UNKNOWN) for value in target.attribute]


def _parts(persons: list[_Person], root: Path) -> list[Manifest]:
    """Return `train` and `val` as parts of trainval, by the first folder of the path, if both occur."""
    of = {split: [p for p in persons if p.image.startswith(f"{IMAGES}/{split}/")] for split in ("train", "val")}
    if not all(of.values()):
        return []
    return [_manifest(split, chosen, root) for split, chosen in of.items()]


def _manifest(split: str, persons: list[_Person], root: Path) -> Manifest:
    return Manifest(
        name="wider",
        split=split,
        root=root,
        labels=LABELS,
        images=tuple(person.image for person in persons),
        targets=np.array([person.values for person in persons], dtype=np.int8).reshape(-1, len(LABELS)),
        boxes=np.array([person.box for person in persons], dtype=np.float64).reshape(-1, 4),
        sample_ids=tuple(f"{person.image}#{person.place}" for person in persons),
    )
