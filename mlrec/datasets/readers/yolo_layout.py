"""Functions that find and parse the file that describes a YOLO dataset.

The description file is `data.yaml`, Darknet's `obj.data`, or `classes.txt`.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Any

from mlrec.datasets.image_paths import is_image
from mlrec.datasets.readers.samples import first_bytes, first_existing, lines_of
from mlrec.datasets.split_names import WHOLE, known_split
from mlrec.utils.errors import DataError
from mlrec.utils.files import read_text
from mlrec.utils.names import duplicates_in

FILE, YAML = "data.yaml", (".yaml", ".yml")
DARKNET, NAMES, CLASSES = "obj.data", "obj.names", "classes.txt"
DARKNET_PREFIX = "data/"  # Darknet paths are relative to the folder of the program
MAX_DEPTH = 100
FILES_TRIED = 100  # label files that are opened to recognize a folder
_BOX = re.compile(rb"\s*\d+([ \t]+[\d.eE+-]+){4}")
_KEYS = re.compile(rb"^(names|train|val|valid|validation|test)[ \t]*:", re.MULTILINE)


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as a YOLO dataset, otherwise None."""
    files = [path / FILE, *_yaml_files(path), *sorted(path.glob("[!.]*.data"))]
    if path.is_file():
        files = [path]
    for file in files:
        if file.suffix.lower() in YAML and len(set(_KEYS.findall(first_bytes(file)))) > 1:
            return f"{file.name} lists classes or splits like a YOLO data.yaml"
    for file in files:
        if file.suffix.lower() == ".data" and re.search(rb"^\s*(classes|names)\s*=", first_bytes(file), re.MULTILINE):
            return f"{file.name} describes a Darknet dataset"
    for file in (path / CLASSES, path / "labels" / CLASSES):
        if file.is_file() and (path / "labels").is_dir():
            return f"it contains {CLASSES} and a label folder, like YOLO"
    if (path / CLASSES).is_file() and any(map(_has_boxes, sorted(path.glob("[!.]*.txt"))[:FILES_TRIED])):
        return f"it contains {CLASSES} and label files next to the images, like YOLO"
    return None


def _has_boxes(file: Path) -> bool:
    """Return whether a text file next to an image with the same name has lines `class x y width height`."""
    has_image = any(is_image(other.name) for other in file.parent.glob(f"{glob.escape(file.stem)}.*"))
    return has_image and _BOX.match(first_bytes(file)) is not None


def find_description(path: Path) -> Path:
    """Return the file that describes the dataset in a folder, or `path` itself if it is a file.

    Raises:
        DataError: The folder has no such file, or has multiple YAML files and none of them is named `data.yaml`.
    """
    if not path.is_dir():
        return path
    if (path / FILE).exists():
        return path / FILE
    yaml_files = _yaml_files(path)
    if len(yaml_files) == 1:
        return yaml_files[0]
    others = (*sorted(path.glob("[!.]*.data")), path / CLASSES, path / "labels" / CLASSES, path / NAMES)
    advice = "specify the path of the file that describes the dataset"
    if yaml_files:
        raise DataError(f"{path}: the folder contains {len(yaml_files)} YAML files, but none is named {FILE}; {advice}")
    other = first_existing(others)
    if other is None:
        raise DataError(f"{path}: the folder contains no {FILE}, {DARKNET} or {CLASSES}; {advice}")
    return other


def _yaml_files(path: Path) -> list[Path]:
    return sorted(file for ending in YAML for file in path.glob(f"*{ending}"))


def load_description(file: Path) -> dict[str, Any]:
    """Return the description as a mapping with the same keys as in `data.yaml`.

    Raises:
        DataError: The file cannot be read, or does not describe a dataset.
    """
    if file.suffix.lower() == ".data":
        return _load_darknet(file)
    if file.suffix.lower() in (".txt", ".names"):
        return _load_classes(file)
    return _load_yaml(file)


def _load_darknet(file: Path) -> dict[str, Any]:
    """Parse `obj.data`: lines `key = value`; `names` is a file with one class per line."""
    values: dict[str, str] = {}
    for number, line in lines_of(file):
        if line.startswith("#"):
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or key in values:
            raise DataError(
                f"{file}: line {number}: '{line}' is not of the form 'key = value', or its key is repeated; "
                "correct the line"
            )
        values[key] = value
    listed = values.pop("names", NAMES)
    places = [file.parent / listed, file.parent / listed.removeprefix(DARKNET_PREFIX), file.parent / Path(listed).name]
    names_file = first_existing(places)
    if names_file is None:
        raise DataError(f"{file}: 'names' is '{listed}', but this file does not exist; correct the path")
    described: dict[str, Any] = {key: value for key, value in values.items() if known_split(key) and value}
    described["names"] = [line for _, line in lines_of(names_file)]
    count = values.get("classes", "")
    if count.isdecimal():
        described["nc"] = int(count)
    return described


def _load_classes(file: Path) -> dict[str, Any]:
    """Parse `classes.txt`, which contains one class per line.

    Images are in `images` or next to the file, with or without split folders.
    """
    root = file.parent
    if root.name == "labels":
        root = root.parent
    images, prefix = root, ""
    if (root / "images").is_dir():
        images, prefix = root / "images", "images/"
    splits = {folder.name: f"{prefix}{folder.name}" for folder in sorted(images.glob("[!.]*")) if folder.is_dir()}
    splits = {name: folder for name, folder in splits.items() if known_split(name)}
    names = [line for _, line in lines_of(file)]
    return {"path": str(root), "names": names, **(splits or {WHOLE: prefix.rstrip("/") or "."})}


def _load_yaml(file: Path) -> dict[str, Any]:
    import yaml

    text = read_text(file)
    try:
        _refuse_tricks(text, file)
        described = yaml.safe_load(text)
    except DataError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        where, place = "", getattr(error, "problem_mark", None)
        if place:
            where = f" at line {place.line + 1}, column {place.column + 1}"
        raise DataError(f"{file}: invalid YAML{where}; correct the syntax") from error
    if not isinstance(described, dict):
        raise DataError(f"{file}: the file is not a YAML mapping; expected the keys names, train and val")
    return described


def _refuse_tricks(text: str, file: Path) -> None:
    """Reject files that are expensive to parse, before parsing them, and duplicate keys."""
    import yaml

    depth = 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.AliasToken):  # a few aliases can expand to billions of values
            raise DataError(f"{file}: YAML aliases are not allowed; write out the values")
        opens, closes = type(token).__name__.endswith("StartToken"), type(token).__name__.endswith("EndToken")
        depth += opens - closes
        if depth > MAX_DEPTH:
            raise DataError(
                f"{file}: the YAML is nested deeper than {MAX_DEPTH}, the limit for dataset descriptions; simplify the "
                "file"
            )
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(top, yaml.MappingNode):
        return
    for node in (top, *(value for _, value in top.value)):
        if isinstance(node, yaml.MappingNode) and (twice := duplicates_in(str(key.value) for key, _ in node.value)):
            raise DataError(f"{file}: key '{twice[0]}' occurs twice; remove the duplicate")
