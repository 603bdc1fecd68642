"""Reader for the format "CVAT for images 1.1": one `annotations.xml` for a task or project.

The file lists the images of the task or project, their tags and their shapes.

A label is positive if the image has a tag or a shape with this label, and negative otherwise. Labels are in the order
of the task.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mlrec.datasets.manifest import POSITIVE
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.samples import ImageFinder, clean_labels, first_bytes, manifest_of
from mlrec.datasets.readers.xml_file import parse_xml
from mlrec.datasets.split_names import WHOLE, resolve_names, usual_order
from mlrec.utils.errors import DataError, ValidationReport, nearest
from mlrec.utils.files import file_in
from mlrec.utils.names import clean_label

FILE, IMAGES = "annotations.xml", "images"
MAX_BYTES = 2_000_000_000
SHAPES = frozenset(
    {"tag", "box", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton"}
)  # elements of an image that have a label
LABEL = ["labels", "label", "name"]  # end of the path to the name of a task label


@dataclass(frozen=True)
class _Image:
    """One image in the file: its name, its subset ("" for none), and the labels of its tags and shapes."""

    name: str
    subset: str
    size: tuple[int, int] | None
    labels: list[str] = field(default_factory=list)


class _CvatTarget:
    """Parser target that collects labels and images without building a tree of the file."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.images: list[_Image] = []
        self._path: list[str] = []
        self._text: list[str] = []

    def start(self, tag: str, attrs: dict[str, str], /) -> None:
        if not self._path and tag != "annotations":
            raise DataError("the root element is not <annotations>; export the task as 'CVAT for images 1.1'")
        inside_image = self._path == ["annotations", "image"]
        self._path.append(tag)
        self._text = []
        if self._path == ["annotations", "track"]:
            raise DataError("the file contains video tracks; export the task as 'CVAT for images 1.1'")
        if self._path == ["annotations", "image"]:
            if "name" not in attrs:
                raise DataError(f"<image> number {len(self.images) + 1} has no name; export the task again")
            self.images.append(_Image(attrs["name"], attrs.get("subset", ""), _size(attrs)))
        elif inside_image and tag in SHAPES:
            if "label" not in attrs:
                raise DataError(f"image '{self.images[-1].name}': <{tag}> has no label; export the task again")
            self.images[-1].labels.append(attrs["label"])

    def end(self, tag: str, /) -> None:  # noqa: ARG002 - as the parser calls it
        # Attributes and skeleton parts also have names, on longer paths.
        if self._path[-3:] == LABEL and self._path[1:2] == ["meta"] and self._path.count("label") == 1:
            self.labels.append("".join(self._text))
        self._path.pop()

    def data(self, data: str, /) -> None:
        self._text.append(data)

    def close(self) -> None:
        """Do nothing, because labels and images have been collected."""


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as a CVAT export for images, otherwise None."""
    file = file_in(path, FILE)
    if file.suffix.lower() == ".xml" and b"<annotations" in first_bytes(file):
        return f"{file.name} is a CVAT for images XML file"
    return None


def read_cvat(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read `annotations.xml` and find the images of the CVAT task or project.

    Images are in `options.images`, in `images` next to the file, or anywhere below the folder of the file.

    The subsets of a project are the splits; without subsets, the only split is `all`.

    Raises:
        DataError: The file does not exist, cannot be read, or contains no labels or no images.
    """
    file = file_in(path.absolute(), FILE)
    if not file.exists():
        raise DataError(f"{file}: no such file; specify the folder of the CVAT export, or its XML file")
    root = (options.images or file.parent).absolute()
    target = _CvatTarget()
    parse_xml(file, str(file), target, MAX_BYTES)
    labels = clean_labels(list(dict.fromkeys(target.labels)), f"{file}: labels", findings)
    if not labels:
        raise DataError(f"{file}: <meta> lists no labels; export the task again")
    if not target.images:
        raise DataError(f"{file}: the file contains no <image> element; export the task again")
    splits = _splits(target.images, file, options, findings)
    finder = ImageFinder(root, findings)
    targets: dict[str, dict[str, dict[str, int]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for number, image in enumerate(target.images, 1):
        where = f"{file}: image {number}"
        folders = [IMAGES, ""]
        if image.subset:
            folders = [f"{IMAGES}/{image.subset}", IMAGES, image.subset, ""]
        name = finder.find(image.name, where, folders)
        known = targets.setdefault(splits[image.subset], {})
        if name in known:
            findings.error(where, f"'{image.name}' occurs twice; keep only one entry")
        known[name] = dict.fromkeys(_known(image.labels, labels, where, findings), POSITIVE)
        if image.size:
            sizes[name] = image.size
    order = sorted(targets, key=usual_order)
    manifests = [manifest_of(split, root, labels, targets[split], name=file.parent.name) for split in order]
    return Reading(file.parent.name, manifests, {"kind": "cvat", "path": str(file)}, stated_sizes=sizes)


def _splits(images: Iterable[_Image], file: Path, options: ReadOptions, findings: ValidationReport) -> dict[str, str]:
    """Return the split of each subset. CVAT names the subset of images without a subset `default`."""
    subsets = {image.subset: str(file) for image in images}
    return {"": WHOLE} | resolve_names(
        {name: place for name, place in subsets.items() if name}, options.split_names, findings
    )


def _known(names: Iterable[str], labels: tuple[str, ...], where: str, findings: ValidationReport) -> list[str]:
    known = []
    for name in names:
        label = clean_label(name, where, findings)
        if label in labels:
            known.append(label)
        else:
            findings.error(
                where, f"'{label}' is not a label of the task{nearest(label, labels) or '; export the task again'}"
            )
    return known


def _size(attrs: dict[str, str]) -> tuple[int, int] | None:
    width, height = attrs.get("width", ""), attrs.get("height", "")
    if width.isdecimal() and height.isdecimal() and len(width + height) < 20:
        return int(width), int(height)
    return None
