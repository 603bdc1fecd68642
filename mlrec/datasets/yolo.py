"""YOLO: `data.yaml` with class names and image lists, and one text file of boxes beside each image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlrec.datasets.images import SUFFIXES
from mlrec.datasets.manifest import POSITIVE, Manifest, clean_label, repeated
from mlrec.datasets.names import image_name
from mlrec.datasets.sources import Reading, ReadOptions
from mlrec.datasets.splitnames import known_split, resolve_names, usual_order
from mlrec.errors import DataError, Findings, printable
from mlrec.files import read_text

FILE = "data.yaml"
MAX_DEPTH = 100
SPLITS = ("train", "val", "test")


def read_yolo(path: Path, options: ReadOptions, findings: Findings) -> Reading:
    """Read the data set that `data.yaml` describes; `path` is that file or its folder.

    `names` is a list or numbers the classes; `train`, `val` (or `valid`, ...) and `test` are folders of images or text
    files that list them, one or several, below `path:` or the folder of the file. The boxes of `images/.../x.jpg` are
    in `labels/.../x.txt`; an image without that file shows nothing. A label is positive if it has a box.

    Raises:
        DataError: no such file, or it does not describe a data set.
    """
    file = _find(path.absolute())
    described = _load(file)
    labels = _names(described.get("names"), file, findings)
    if described.get("nc", len(labels)) != len(labels):
        findings.error(
            f"{file}", f"nc is {printable(described['nc'])}, but names has {len(labels)}; correct one of them"
        )
    splits = _splits(described, file, options.split_names, findings)
    root = _root(described.get("path"), file)
    manifests = []
    for split, entries in splits.items():
        images = _images(entries, f"{file}: {split}", root, findings)
        if findings.errors:
            continue
        rows = [_targets(root, image, len(labels), findings) for image in images]
        targets = np.array(rows, dtype=np.int8).reshape(-1, len(labels))
        manifests.append(Manifest(root.name, split, root, labels, tuple(images), targets))
    for split in SPLITS:
        if split not in splits:
            findings.warn(f"split '{split}' is absent, because {FILE} does not name it", str(file))
    name = file.stem if file.name != FILE else file.parent.name
    return Reading(name, manifests, {"kind": "yolo", "path": str(file)})


def _find(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / FILE] if (path / FILE).exists() else sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    if len(found) != 1:
        raise DataError(f"{printable(path)}: {len(found)} YAML files and no {FILE}; give the path of the right one")
    return found[0]


def _load(file: Path) -> dict[str, Any]:
    import yaml

    text = read_text(file)
    try:
        _refuse_tricks(text, file)
        described = yaml.safe_load(text)
    except DataError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}, column {place.column + 1}" if place else ""
        raise DataError(f"{printable(file)}: invalid YAML{where}; correct it") from error
    if not isinstance(described, dict):
        raise DataError(f"{printable(file)}: no YAML mapping; it needs names, train and val")
    return described


def _refuse_tricks(text: str, file: Path) -> None:
    """Refuse what costs far more to read than to write, before it is read, and keys of which the last would win."""
    import yaml

    depth = 0
    for token in yaml.scan(text):
        if isinstance(token, yaml.AliasToken):  # a few of them can stand for billions of values
            raise DataError(f"{printable(file)}: uses YAML aliases; write the values out")
        opens, closes = type(token).__name__.endswith("StartToken"), type(token).__name__.endswith("EndToken")
        depth += opens - closes
        if depth > MAX_DEPTH:
            raise DataError(f"{printable(file)}: nested deeper than {MAX_DEPTH}; no description of a data set is")
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    for node in (top, *(value for _, value in top.value)) if isinstance(top, yaml.MappingNode) else ():
        if isinstance(node, yaml.MappingNode) and (twice := repeated(str(key.value) for key, _ in node.value)):
            raise DataError(f"{printable(file)}: key '{printable(twice[0])}' stands twice; keep one")


def _names(value: Any, file: Path, findings: Findings) -> tuple[str, ...]:
    if isinstance(value, dict) and set(value) == set(range(len(value))):
        value = [value[k] for k in range(len(value))]
    if not isinstance(value, list) or not value:
        raise DataError(f"{printable(file)}: names must list the classes, or number them 0, 1, 2, ... without gaps")
    for name in value:
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise DataError(f"{printable(file)}: names: {printable(name)} is no text to YAML; put the name in quotes")
    labels = tuple(clean_label(str(name), f"{file}: names[{k}]", findings) for k, name in enumerate(value))
    for name in repeated(labels):
        findings.error(f"{file}: names", f"'{printable(name)}' stands twice; keep one")
    return labels


def _splits(
    described: Mapping[Any, Any], file: Path, given: Mapping[str, str], findings: Findings
) -> dict[str, list[Any]]:
    """What each split's key gives: folders and lists of images.

    Raises:
        DataError: no key is the name of a split.
    """
    keys = [key for key, value in described.items() if isinstance(key, str) and value is not None]
    keys = [key for key in keys if key.casefold() in given or known_split(key) is not None]
    if not any(described[key] for key in keys):
        raise DataError(f"{printable(file)}: names none of {', '.join(SPLITS)}; say where the images are")
    names = resolve_names({key: str(file) for key in keys}, given, findings)
    splits: dict[str, list[Any]] = {}
    for key in sorted(keys, key=lambda key: usual_order(names[key])):
        value = described[key]
        splits.setdefault(names[key], []).extend(value if isinstance(value, list) else [value])
    return splits


def _root(value: Any, file: Path) -> Path:
    """`path:` where it exists, as given or below the file's folder; else that folder: configurations move with data."""
    candidates = [file.parent / str(value), Path(str(value))] if value else []
    return next((folder for folder in candidates if _exists(folder) and folder.is_dir()), file.parent).resolve()


def _images(entries: Sequence[Any], where: str, root: Path, findings: Findings) -> list[str]:
    """Image names below the root, out of folders and lists."""
    names: list[str] = []
    for entry in entries:
        place = _place(str(entry), where, root)
        if place.is_dir():
            found = sorted(file for file in place.rglob("[!.]*") if file.suffix.lower() in SUFFIXES)
            names += [file.relative_to(root).as_posix() for file in found]
        else:
            names += _listed(place, root, findings)
    for name in repeated(names):
        findings.warn("images listed twice were taken once", f"{where}: {name}")
    return list(dict.fromkeys(names))


def _place(entry: str, where: str, root: Path) -> Path:
    """The folder or list that an entry means; `../images` of exported sets means `images`."""
    for candidate in (root / entry, root / entry.removeprefix("../")):
        if _exists(candidate) and candidate.resolve().is_relative_to(root):
            return candidate.resolve()
    raise DataError(f"{printable(where)}: '{printable(entry)}' is neither a folder nor a list below {printable(root)}")


def _exists(path: Path) -> bool:
    """Whether `path` exists, also where it is longer than any file system takes."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _listed(file: Path, root: Path, findings: Findings) -> list[str]:
    lines = [(number, line.strip()) for number, line in enumerate(read_text(file).split("\n"), 1)]
    names = []
    for number, line in lines:
        if line:
            inside = Path(line).is_absolute() and Path(line).is_relative_to(root)
            name = Path(line).relative_to(root).as_posix() if inside else line
            names.append(image_name(name, f"{file}: line {number}", findings))
    return names


def _targets(root: Path, image: str, labels: int, findings: Findings) -> list[int]:
    targets = [0] * labels
    file = _label_file(root, image)
    if not file.exists():
        findings.warn("images without a label file are negative for every class", image)
        return targets
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if line.strip():
            label = _class_of(line.split(), labels, f"{file}: line {number}", findings)
            if label is not None:
                targets[label] = POSITIVE
    return targets


def _label_file(root: Path, image: str) -> Path:
    """`labels/x.txt` for `images/x.jpg`: the last folder called images gives way; without one, beside the image."""
    parts = list(Path(image).with_suffix(".txt").parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return root.joinpath(*parts)


def _class_of(fields: Sequence[str], labels: int, where: str, findings: Findings) -> int | None:
    """The class of one line: `class x y width height`, or `class x1 y1 x2 y2 ...` of an outline."""
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        numbers = []
    if len(numbers) < 5 or not all(map(math.isfinite, numbers)) or not numbers[0].is_integer():
        findings.error(where, "not 'class x y width height' in numbers; correct the line")
        return None
    if not 0 <= numbers[0] < labels:
        findings.error(
            where, f"class {numbers[0]:.0f} is not one of the {labels} classes, 0 to {labels - 1}; see names"
        )
        return None
    return int(numbers[0])
