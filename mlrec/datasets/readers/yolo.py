"""Reader for YOLO datasets: class names, images, and one text file with boxes per image.

A dataset is described by `data.yaml` (Ultralytics) or by `obj.data` and `obj.names` (Darknet, CVAT). A dataset from
Label Studio or LabelImg has only `classes.txt` and the folders `images` and `labels`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlrec.datasets.image_paths import (
    ImageIndex,
    Omitted,
    files_below,
    image_files,
    is_image,
    name_below,
    unused_images,
    without_dots,
)
from mlrec.datasets.images.decode import SUFFIXES
from mlrec.datasets.manifest import POSITIVE, Manifest
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.samples import as_list
from mlrec.datasets.readers.yolo_layout import DARKNET_PREFIX, FILE, YAML, find_description, load_description
from mlrec.datasets.split_names import known_split, resolve_names, usual_order
from mlrec.utils.errors import DataError, ValidationReport, counted
from mlrec.utils.files import read_text
from mlrec.utils.names import alike, clean_label, duplicates_in, image_name, normal

SPLITS = ("train", "val", "test")
# Keys without images: the description itself, and keys of training tools.
OTHER_KEYS = frozenset(
    {"path", "names", "nc", "download", "kpt_shape", "kpt_names", "flip_idx", "channels", "roboflow", "yaml_file"}
)
_FIRST_COLUMN = re.compile(rf"(.*?({'|'.join(map(re.escape, SUFFIXES))}))[\s,;]", re.IGNORECASE)


def read_yolo(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read the dataset that `data.yaml`, `obj.data` or `classes.txt` describes.

    `path` is the path of the description file or of its folder. `names` is a list of class names, or a mapping from
    class indices to class names. Each of the keys `train`, `val` (or `valid`, ...) and `test` contains one or more
    paths of image folders or of text files that list images. Relative paths in `train`, `val` and `test` are relative
    to the folder in the key `path`, or to the folder of the description file. The boxes of `images/.../x.jpg` are in
    `labels/.../x.txt`. An image without a label file is negative for every class. If a split has no label files, an
    error is reported. Links are not resolved. A label is positive if the image has a box of this class.

    Raises:
        DataError: The file does not exist or does not describe a dataset.
    """
    file = find_description(path.absolute())
    described = load_description(file)
    labels = _names(described.get("names"), file, findings)
    if described.get("nc", len(labels)) != len(labels):
        findings.error(
            f"{file}",
            f"'nc' is {described['nc']}, but 'names' has {counted(len(labels), 'entry', 'entries')}; correct one "
            "of them",
        )
    splits = _splits(described, file, options.split_names, findings)
    root = _root(described.get("path"), file, findings)
    listing = _Listing(root, findings)
    images = {split: listing.images(entries, f"{file}: {split}") for split, entries in splits.items()}
    name = file.parent.name
    if file.suffix.lower() in YAML:
        if file.name != FILE:
            name = file.stem
        for split in SPLITS:
            if split not in splits:
                findings.warn(f"split '{split}' is absent because {FILE} does not list it", str(file))
    source = {"kind": "yolo", "path": str(file)}
    if findings.errors:
        return Reading(name, [], source)
    label_files = _LabelFiles(root, findings)
    manifests = []
    for split, names in images.items():
        rows = label_files.targets(names, len(labels), f"{file}: {split}")
        targets = np.array(rows, dtype=np.int8).reshape(-1, len(labels))
        manifests.append(Manifest(root.name, split, root, labels, tuple(names), targets))
    listing.warn_of_the_rest([image for names in images.values() for image in names])
    return Reading(name, manifests, source)


def _names(value: Any, file: Path, findings: ValidationReport) -> tuple[str, ...]:
    if isinstance(value, dict) and set(value) == set(range(len(value))):
        value = [value[k] for k in range(len(value))]
    if not isinstance(value, list) or not value:
        raise DataError(f"{file}: 'names' must list the classes, or number them 0, 1, 2, ... without gaps")
    for name in value:
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise DataError(f"{file}: names: {name} is not a string in YAML; put the name in quotes")
    labels = tuple(clean_label(str(name), f"{file}: names[{k}]", findings) for k, name in enumerate(value))
    for name in duplicates_in(labels):
        findings.error(f"{file}: names", f"'{name}' occurs twice; rename one of the classes")
    return labels


def _splits(
    described: Mapping[Any, Any], file: Path, given: Mapping[str, str], findings: ValidationReport
) -> dict[str, list[Any]]:
    """Return the entries of each split's key: folders and lists of images. Unknown keys cause a warning.

    Raises:
        DataError: No key is the name of a split.
    """
    keys = [key for key, value in described.items() if isinstance(key, str) and value is not None]
    keys = [key for key in keys if key.casefold() in given or known_split(key) is not None]
    if not any(described[key] for key in keys):
        raise DataError(
            f"{file}: the file has none of the keys {', '.join(SPLITS)}; add one with the location of the images"
        )
    for key in described:
        if key not in OTHER_KEYS and key not in keys and key not in SPLITS:
            findings.warn("unknown keys were ignored", f"{file}: {key}")
    names = resolve_names({key: str(file) for key in keys}, given, findings)
    splits: dict[str, list[Any]] = {}
    for key in sorted(keys, key=lambda key: usual_order(names[key])):
        splits.setdefault(names[key], []).extend(as_list(described[key]))
    return splits


def _root(value: Any, file: Path, findings: ValidationReport) -> Path:
    """Return `path:` if it exists, as given or below the folder of the file.

    Otherwise, return the folder of the file, because datasets are often moved together with their configuration.
    """
    if not value:
        return file.parent
    for folder in (file.parent / str(value), Path(str(value)).absolute()):
        if _exists(folder) and folder.is_dir():
            return without_dots(folder)
    findings.warn(f"the folder in 'path' does not exist; the folder of {FILE} was used", f"{file}: {value}")
    return file.parent


def _exists(path: Path) -> bool:
    """Return whether `path` exists; a path that is too long for any file system does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


class _Listing:
    """Images of a dataset from folders and lists, as paths relative to the root."""

    def __init__(self, root: Path, findings: ValidationReport) -> None:
        self._root, self._findings = root, findings
        self._omitted = Omitted()
        self._index: ImageIndex | None = None

    def images(self, value: Any, where: str) -> list[str]:
        """Return image names below the root, from the folders and lists of one key."""
        names: list[str] = []
        for entry in as_list(value):
            place = self._place(str(entry), where)
            if place is None:
                continue
            if place.is_dir():
                files = sorted(image_files(place, self._omitted))
                names += [file.relative_to(self._root).as_posix() for file in files]
            else:
                names += self._listed(place)
        for name in duplicates_in(names):
            self._findings.warn("images that are listed twice were used only once", f"{where}: {name}")
        return list(dict.fromkeys(names))

    def warn_of_the_rest(self, used: Sequence[str]) -> None:
        """Warn about images without a split, and about other files in the image folders."""
        self._omitted.files = [file for file in self._omitted.files if file.suffix.lower() not in (".txt", ".cache")]
        self._omitted.warn(self._findings)
        for name in unused_images(self._root, used):
            self._findings.warn("images without a split were not used", name)

    def _place(self, entry: str, where: str) -> Path | None:
        """Return the folder or list of an entry; `../images` in exported datasets means `images`."""
        spellings = (entry, entry.removeprefix("../"), entry.removeprefix(DARKNET_PREFIX))
        for candidate in (self._root / spelling for spelling in spellings):
            name = self._name_of(candidate)
            if name is not None:
                return self._root / name
        for tail in _tails(entry):
            if self._name_of(self._root / tail) is not None:
                self._findings.warn(
                    "paths from another machine were matched by their last components",
                    f"{where}: {entry} matched {tail}",
                )
                return self._root / tail
        near = alike(self._root / entry)
        there = f"; did you mean {near}?" if near else ""
        self._findings.error(
            where, f"'{entry}' is neither a folder nor an image list in {self._root}{there or '; correct the path'}"
        )
        return None

    def _name_of(self, place: Path) -> str | None:
        """Return the name of a file or folder below the root.

        The result is None if the file or folder is outside the root or does not exist.
        """
        if not _exists(place):
            return None
        return name_below(self._root, place)

    def _listed(self, file: Path) -> Iterator[str]:
        for number, line in enumerate(read_text(file).split("\n"), 1):
            if line.strip():
                yield self._named(line.strip(), file, f"{file}: line {number}")

    def _named(self, line: str, file: Path, where: str) -> str:
        """Return the image on a line of a list: below the root, or below the folder of the list."""
        written = line
        if not is_image(line):  # additional columns contain labels
            column = _FIRST_COLUMN.match(line)
            if column:
                written = column[1]
        shorter = written.removeprefix(DARKNET_PREFIX)
        for place in (self._root / written, file.parent / written, self._root / shorter):
            name = self._name_of(place)
            if name is not None:
                return image_name(name, where, self._findings)
        if ".." in written.split("/") or _exists(Path(written)):  # outside the root
            return image_name(written, where, self._findings)
        if self._index is None:
            self._index = ImageIndex(self._root)
        files = self._index.find(written)
        if len(files) != 1:
            return image_name(written, where, self._findings)
        self._findings.warn("names were matched to files with a different spelling", f"{where}: {files[0]}")
        return files[0]


class _LabelFiles:
    """Text files with boxes, looked up by image name; each folder is listed only once."""

    def __init__(self, root: Path, findings: ValidationReport) -> None:
        self._root, self._findings = root, findings
        self._folders: dict[Path, dict[str, str]] = {}

    def targets(self, images: Sequence[str], labels: int, where: str) -> list[list[int]]:
        """Return a row of targets for each image. An error is added if none of the images has a label file."""
        files = [self._of(image) for image in images]
        if images and not any(files):
            self._findings.error(where, self._none_found(images))
            return [[0] * labels for _ in images]
        return [self._row(image, file, labels) for image, file in zip(images, files, strict=True)]

    def _row(self, image: str, file: Path | None, labels: int) -> list[int]:
        row = [0] * labels
        if file is None:
            wanted = self._candidates(image)[0]
            if near := alike(wanted):
                self._findings.error(image, f"the label file is named {near}; rename it to {wanted.name}")
            else:
                self._findings.warn("images without a label file were labeled negative for every class", image)
            return row
        for number, line in enumerate(read_text(file).split("\n"), 1):
            if line.strip():
                label = _class_of(line.split(), labels, f"{file}: line {number}", self._findings)
                if label is not None:
                    row[label] = POSITIVE
        return row

    def _of(self, image: str) -> Path | None:
        """Return the label file of an image. Unicode forms are ignored, but case matters."""
        for file in self._candidates(image):
            if file.parent not in self._folders:
                self._folders[file.parent] = _spellings_in(file.parent)
            names_there = self._folders[file.parent]
            name = names_there.get(file.name) or names_there.get(normal(file.name))
            if name:
                return file.parent / name
        return None

    def _candidates(self, image: str) -> list[Path]:
        """Return possible label files of an image, starting with the usual file.

        The last folder named `images` is replaced by `labels`. If there is no such folder below the root, the root
        itself may be inside such a folder (`path: ./images`), or the labels are next to the images.
        """
        file = Path(image).with_suffix(".txt")
        inside = _with_labels(file)
        if inside:
            return [self._root / inside]
        above = _with_labels(self._root / file)
        if above:
            return [above, self._root / file]
        return [self._root / file]

    def _none_found(self, images: Sequence[str]) -> str:
        """Return the message about a split without any label file: the expected folder and its actual content."""
        looked = " or ".join(map(str, self._candidates(images[0])))
        stems = {normal(Path(image).stem).casefold() for image in images}
        others = (
            file
            for file in files_below(self._root, Omitted())
            if file.suffix.lower() == ".txt" and normal(file.stem).casefold() in stems
        )
        other = next(others, None)
        there = f"found {other}; rename or move" if other else "found no file with such a name; add"
        return (
            f"no image has a label file ({counted(len(images), 'image')}); expected {looked}, but {there} the label "
            f"files, or remove this split (its line in {FILE}, or its folder)"
        )


def _tails(entry: str) -> Iterator[str]:
    """Iterate over the ends of a path from another machine, longest end first.

    Only an absolute path, or a path that starts with `..`, has ends.

    An end must contain the name of the split, if the path has one: `/x/test/images` must not match `images`.

    Example:
        >>> list(_tails("/content/pets/train/images"))
        ['pets/train/images', 'train/images']
    """
    parts = normal(entry).strip("/").split("/")
    if not entry.startswith(("/", "\\", "..")) and not parts[0].endswith(":"):
        return
    for start in range(1, len(parts)):
        if any(map(known_split, parts[start:])) or not any(map(known_split, parts)):
            yield "/".join(parts[start:])


def _spellings_in(folder: Path) -> dict[str, str]:
    """Return the file names in a folder, keyed by name and by normalized name.

    The result is empty if the folder does not exist.
    """
    if not folder.is_dir():
        return {}
    names = [entry.name for entry in folder.iterdir()]
    return {normal(name): name for name in names} | {name: name for name in names}


def _with_labels(file: Path) -> Path | None:
    """Return `labels/x.txt` for `images/x.txt`, or None if no folder has that name."""
    folders = list(file.parts[:-1])
    if "images" not in folders:
        return None
    last = len(folders) - 1 - folders[::-1].index("images")
    return Path(*folders[:last], "labels", *folders[last + 1 :], file.name)


def _class_of(fields: Sequence[str], labels: int, where: str, findings: ValidationReport) -> int | None:
    """Return the class of one line: `class x y width height`, or `class x1 y1 x2 y2 ...` for an outline."""
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        numbers = []
    if len(numbers) < 5 or not all(map(math.isfinite, numbers)) or not numbers[0].is_integer():
        findings.error(where, "the line is not in the numeric format 'class x y width height'; correct the line")
        return None
    if not 0 <= numbers[0] < labels:
        known = counted(labels, "class", "classes")
        findings.error(
            where,
            f"class {numbers[0]:.0f} is out of range for {known} (numbered from 0); correct the line or the class "
            "names",
        )
        return None
    return int(numbers[0])
